"""Drafters without keys of their own, stepped as a server steps them, give what their chains give, whatever was read before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from driftcli.conditions import DraftSettings
from driftcli.domain import System
from driftcli.engine.keyless_serving import ServedAssistant
from driftcli.engine.serving import ServedTarget, serve
from driftcli.engine.stage_chains import draft_stages
from driftcli.families.feed_forward.drafter import FeedForward
from driftcli.loading.pair import load_pair
from tests.engine.rounds import served_chains
from tests.engine.test_keyless_chains import DEPTH, TOLERANCE, TRANSFORMERS, VLLM, Pair, off
from tests.families.feed_forward.cases import CASES, HEADS, write
from tests.tiny import prompts, trajectories


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


def test_a_step_of_a_target_whose_last_layers_share_keys_hands_out_the_streams_of_all_its_tokens(pair: Pair) -> None:
    text = pair.texts[1]
    found = ServedTarget(pair.target, (7, 3)).read(text.ids[None, :-1], 1)
    for boundary, stream in found.streams.items():
        assert off(stream[0], text.streams[boundary]) < TOLERANCE
    assert int(found.choices[0, -1]) == int(text.choices[-1])


@pytest.mark.parametrize("name", ["medusa", "hydra", "speculator", "speculator-tied"])
def test_heads_without_attention_step_as_their_free_chains_do(name: str, models: Path, tmp_path: Path) -> None:
    loaded = load_pair(str(models / "target"), str(write(CASES[name], tmp_path / name)), torch.device("cpu"), "float32")
    drafter = loaded.drafter
    assert isinstance(drafter, FeedForward)
    (text, *_) = trajectories(loaded.target, prompts(1), [*drafter.boundaries], 16)
    drafted = draft_stages(drafter, [text], DraftSettings(HEADS), HEADS, free=True)
    served, places = serve(drafter, len(text.ids), HEADS), [0, 3, 4]
    wanted = torch.stack([queries.guesses.drafted[places] for queries in drafted.free], dim=1)
    assert torch.equal(served_chains(served, text, HEADS, places), wanted)
    assert served.follow(torch.tensor([5])).shape == (1,)  # behind the last head that one stands for any further
    served.repeat(3)
    assert served.follow(torch.tensor([5, 5, 5])).tolist() == [int(served.follow(torch.tensor([5, 5, 5]))[0])] * 3
