"""A witness that reads as transformers does drafts what transformers' own loop drafts, round by round."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from driftcli.conditions import DraftSettings
from driftcli.engine.cells import draft
from driftcli.engine.rows import right_guesses
from driftcli.loading.pair import load_pair
from driftcli.statistics.walks import leading_matches
from tests.families.mtp.all_cases import CASES
from tests.families.mtp.cases import write
from tests.families.mtp.rounds import Round, favour, rounds_by_transformers
from tests.families.mtp.witness import Reading, Witness, read_streams, read_target
from tests.tiny import bare_trajectory

NAMES = ("deepseek_v3", "deepseek_v3-yarn", "deepseek_v3-2", "deepseek_v3-3", "glm4_moe", "glm4_moe-2")


@dataclass(frozen=True)
class Loop:
    """A target, what its head drafts in transformers' loop, and the head's witness."""

    folder: Path
    target: PreTrainedModel
    rounds: list[Round]
    witness: Witness

    def drafts(self, reading: Reading) -> list[tuple[int, ...]]:
        found = []
        for turn in self.rounds:
            ids = torch.tensor(turn.ids)
            found.append(tuple(self.witness.read_as(reading).drafts(ids, read_streams(self.target, ids), len(turn.drafted))))
        return found


@pytest.fixture(scope="module", params=[case for case in CASES if case.name in NAMES], ids=lambda case: case.name)
def loop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loop:
    folder = write(request.param, tmp_path_factory.mktemp(request.param.name))
    favour(folder)
    target, ids = read_target(folder), torch.randint(4, 250, (7,), generator=torch.Generator().manual_seed(2))
    return Loop(folder, target, rounds_by_transformers(target, ids, 16), Witness.of(request.param, folder))


def test_the_witness_drafts_as_transformers_does(loop: Loop) -> None:
    assert len(loop.rounds) > 5 and max(len(turn.drafted) for turn in loop.rounds) == loop.witness.case.modules
    assert loop.drafts(Reading(per_depth=True, first_position=1)) == [turn.drafted for turn in loop.rounds]


def test_some_tokens_are_accepted_and_some_are_not(loop: Loop) -> None:
    assert {turn.accepted > 0 for turn in loop.rounds} == {True, False}
    for before, after in pairwise(loop.rounds):
        assert len(after.ids) == len(before.ids) + before.accepted + 1


def test_another_order_of_the_halves_drafts_otherwise(loop: Loop) -> None:
    assert loop.drafts(Reading(per_depth=True, other_order=True)) != [turn.drafted for turn in loop.rounds]


def test_the_engine_keeps_as_many_drafts_a_round_as_transformers_does(loop: Loop) -> None:
    pair = load_pair(str(loop.folder), "mtp", torch.device("cpu"), "float32", reading="as_served:transformers")
    last, depth = loop.rounds[-1], loop.witness.case.modules
    ids, first = torch.tensor(last.ids), len(loop.rounds[0].ids) - 1
    layers, streams = len(pair.target.layers), read_streams(loop.target, ids)
    text = bare_trajectory("p", ids, first, {layers: streams.pre, layers + 1: streams.post})
    drafted = draft(pair, [text], DraftSettings(depth=depth), depth, free=False)
    (right,) = right_guesses(drafted.forced, drafted.anchors, [text])
    kept = leading_matches(right)
    turns = [turn for turn in loop.rounds if len(turn.drafted) == depth and len(turn.ids) - 1 - first < drafted.n_anchors]
    assert len(turns) > 4
    for turn in turns:
        anchor = len(turn.ids) - 1 - first
        assert int(kept[anchor]) == turn.accepted
        assert int(drafted.forced[0].guesses.drafted[anchor]) == turn.drafted[0]
