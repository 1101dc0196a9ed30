"""An assistant stepped as a server steps it gives the states of its chains, whatever was read before and taken back."""

from __future__ import annotations

import pytest
import torch

from driftcli.domain import System
from driftcli.engine.keyless_serving import ServedAssistant
from driftcli.engine.serving import serve
from tests.engine.test_keyless_chains import DEPTH, TOLERANCE, TRANSFORMERS, VLLM, Pair, off


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair("shared", tmp_path_factory.mktemp("shared"))


@pytest.mark.parametrize("system", [VLLM, TRANSFORMERS])
def test_rounds_behind_growing_texts_step_as_free_chains_do(pair: Pair, system: System) -> None:
    text, drafter = pair.texts[0], pair.read(system)
    drafted, ids, start = pair.draft(system, [text]), text.ids, text.prompt_length
    served = serve(drafter, len(ids), DEPTH)
    assert isinstance(served, ServedAssistant)

    def step(rows: slice) -> None:
        """A round behind newly read rows, on the tokens that the chain of its anchor guessed."""
        streams = {one: text.streams[one][None, rows] for one in served.boundaries}
        served.read(ids[None, rows.start + 1 : rows.stop + 1], streams)
        for depth, queries in enumerate(drafted.free):
            if depth:
                served.follow(drafted.free[depth - 1].guesses.drafted[rows.stop - start][None])
            assert queries.state is not None
            assert off(served._state, queries.state[rows.stop - start][None]) < TOLERANCE

    step(slice(0, start))
    step(slice(start, start + 5))
    served.crop(start)
    step(slice(start, start + 2))
    step(slice(start + 2, start + 3))


def test_a_batch_of_one_text_many_times_drafts_the_same_in_each(pair: Pair) -> None:
    text, drafter = pair.texts[2], pair.read(VLLM)
    served, ids, start = ServedAssistant(drafter, len(text.ids)), text.ids, text.prompt_length
    served.read(ids[None, 1:start], {one: text.streams[one][None, : start - 1] for one in served.boundaries})
    served.repeat(3)
    more = {one: text.streams[one][None, start - 1 : start + 2].expand(3, -1, -1) for one in served.boundaries}
    guesses = served.read(ids[None, start : start + 3].expand(3, -1), more)
    drafted = pair.draft(VLLM, [text])
    assert guesses.tolist() == [int(drafted.free[0].guesses.drafted[2])] * 3
    torch.testing.assert_close(served.follow(guesses), drafted.free[1].guesses.drafted[2].expand(3))
