"""A witness that reads as transformers does drafts what transformers' own loop drafts, round by round."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from transformers import PreTrainedModel

from tests.families.mtp.all_cases import CASES
from tests.families.mtp.cases import write
from tests.families.mtp.rounds import Round, favour, rounds_by_transformers
from tests.families.mtp.witness import Reading, Witness, read_streams, read_target

NAMES = ("deepseek_v3", "deepseek_v3-yarn", "deepseek_v3-2", "deepseek_v3-3", "glm4_moe", "glm4_moe-2")


@dataclass(frozen=True)
class Loop:
    """A target, what its head drafts in transformers' loop, and the head's witness."""

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
    return Loop(target, rounds_by_transformers(target, ids, 16), Witness.of(request.param, folder))


def test_the_witness_drafts_as_transformers_does(loop: Loop) -> None:
    assert len(loop.rounds) > 5 and max(len(turn.drafted) for turn in loop.rounds) == loop.witness.case.modules
    assert loop.drafts(Reading(per_depth=True, first_position=1)) == [turn.drafted for turn in loop.rounds]


def test_some_tokens_are_accepted_and_some_are_not(loop: Loop) -> None:
    assert {turn.accepted > 0 for turn in loop.rounds} == {True, False}
    for before, after in pairwise(loop.rounds):
        assert len(after.ids) == len(before.ids) + before.accepted + 1


def test_another_order_of_the_halves_drafts_otherwise(loop: Loop) -> None:
    assert loop.drafts(Reading(per_depth=True, other_order=True)) != [turn.drafted for turn in loop.rounds]
