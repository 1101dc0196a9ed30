"""driftcli's heads draft what their witnesses do: fresh, and every chain of every anchor, by every reading that a wiring names."""

from __future__ import annotations

import pytest
import torch

from driftcli.conditions import DraftSettings, Wiring
from driftcli.engine.chains import draft_chains
from driftcli.loading.pair import LoadedPair, load_pair
from tests.families.mtp.all_cases import CASES
from tests.families.mtp.cases import write
from tests.families.mtp.witness import Reading, Streams, Witness
from tests.tiny import prompts, trajectories

LOADED, DEPTH = ("qwen3_5", "qwen3_5-published"), 4


@pytest.fixture(scope="module", params=[case for case in CASES if case.name in LOADED], ids=lambda case: case.name)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedPair, Witness]:
    folder = write(request.param, tmp_path_factory.mktemp(request.param.name))
    return load_pair(str(folder), "mtp", torch.device("cpu"), "float32"), Witness.of(request.param, folder)


def wirings(layers: int) -> list[tuple[Wiring, Reading]]:
    return [(Wiring(), Reading()), (Wiring(feedback="raw"), Reading(feedback="raw")), (Wiring(capture=(layers,)), Reading(hand_in="pre"))]


def test_a_head_and_its_witness_agree(both: tuple[LoadedPair, Witness]) -> None:
    pair, witness = both
    layers = witness.config.num_hidden_layers
    (text,) = trajectories(pair.target, prompts(1), (layers, layers + 1), 12)  # type: ignore[arg-type]
    streams = Streams(text.streams[layers].float(), text.streams[layers + 1].float())
    for wiring, reading in wirings(layers):
        read = witness.read_as(reading)
        drafted = draft_chains(pair.drafter, text, DraftSettings(depth=DEPTH, wiring=wiring), DEPTH, free=False)  # type: ignore[arg-type]
        fresh = read.fresh(text.ids, streams).states[text.prompt_length - 1 :]
        assert drafted.fresh.state is not None and all(forced.state is not None for forced in drafted.forced)
        torch.testing.assert_close(drafted.fresh.state, fresh[: len(drafted.fresh.state)], rtol=1e-4, atol=1e-4)
        for place in range(drafted.n_anchors):
            found = torch.stack([forced.state[place] for forced in drafted.forced])  # type: ignore[index]
            torch.testing.assert_close(found, read.chain(text.ids, streams, text.prompt_length + place, DEPTH).states, rtol=1e-3, atol=1e-3)
