"""Every family's head in the engine against a second computation by transformers' one-layer model of the family, by every reading."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from driftcli.conditions import DraftSettings
from driftcli.domain import System
from driftcli.engine.cells import draft
from driftcli.families.mtp.declaration import MtpDeclaration, declare_mtp
from driftcli.families.mtp.head import MtpModules
from driftcli.families.mtp.kinds import Served
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.sources.checkpoint import open_checkpoint
from driftcli.sources.files import resolve
from driftcli.target.facts import read_facts
from tests.families.mtp.all_cases import CASES
from tests.families.mtp.cases import Case, write
from tests.families.mtp.witness import Reading, Streams, Witness
from tests.tiny import prompts, trajectories

CPU, DEPTH = torch.device("cpu"), 3
BY_NAME = {case.name: case for case in CASES}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


@cache
def written(name: str, root: Path) -> Path:
    """A case's target with its head, written once."""
    return write(BY_NAME[name], root / name)


def declared(folder: Path) -> MtpDeclaration:
    source = resolve(str(folder))
    return declare_mtp(open_checkpoint(source), read_facts(source))


def as_witnessed(served: Served, case: Case, modules: int) -> Reading:
    """The witness's words for what a system does."""
    other = case.turned is not None and served.rotation is not None
    return Reading(
        feedback=served.feedback, hand_in="post" if served.handed == "normed" else "pre", zeroed=served.blanks_first, other_rope=other,
        per_depth=modules > 1,
    )  # fmt: skip


@pytest.mark.parametrize("name", BY_NAME)
def test_every_reading_equals_the_familys_own_layer(name: str, folders: Path) -> None:
    folder = written(name, folders)
    d, whole = declared(folder), Witness.of(BY_NAME[name], folder)
    for system, served in d.kind.served.items():
        if not served.wider or d.modules[0].window is None:
            pair = load_pair(str(folder), "mtp", CPU, "float32", reading=system)
            equals_the_witness(pair, whole.read_as(as_witnessed(served, BY_NAME[name], d.count(system))), system)


@torch.no_grad()
def equals_the_witness(pair: LoadedPair, witness: Witness, system: System) -> None:
    layers = len(pair.target.layers)
    texts = [text for text in trajectories(pair.target, prompts(3), (layers, layers + 1), 10) if text.n_anchors(DEPTH)]
    assert texts
    for text in texts[:2]:
        streams, ids = Streams(text.streams[layers], text.streams[layers + 1]), text.ids
        settings = DraftSettings(depth=len(pair.drafter.modules) if isinstance(pair.drafter, MtpModules) else DEPTH)
        drafted = draft(pair, text, settings, settings.depth, free=False)
        for place in (0, drafted.n_anchors - 1):
            chain = witness.chain(ids, streams, text.prompt_length + place, settings.depth)
            for depth, queries in enumerate(drafted.forced):
                probs = (chain.logits[depth] / text.temperature).softmax(-1)
                where = f"{system}, anchor {place}, depth {depth + 1}"
                assert int(queries.guesses.drafted[place]) == int(probs.argmax()), where
                torch.testing.assert_close(queries.guesses.draft_prob[place], probs.max(), rtol=1e-3, atol=1e-4, msg=where)
                if queries.state is not None:
                    torch.testing.assert_close(queries.state[place], chain.states[depth], rtol=1e-3, atol=1e-3, msg=where)
