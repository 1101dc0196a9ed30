from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM, MistralConfig, MistralForCausalLM

from driftcli.conditions import DraftSettings
from driftcli.engine.cells import draft
from driftcli.engine.drafted import Drafted
from driftcli.engine.serving import ServedTarget, serve
from driftcli.engine.trajectories import Trajectory
from driftcli.errors import RunError
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.sources.files import Source
from driftcli.statistics.walks import leading_matches, walk
from driftcli.target.language_model import LanguageModel
from examples.speculative_decoding import decode_plainly, decode_speculatively, some
from tests.engine.rounds import served_chains
from tests.families.block.cases import CASES, write
from tests.tiny import boundaries, prompts, tokenizer, trajectories

DEPTH = 4
NAMES = ("pre", "post", "trained-pre", "trained-post", "lm")
LAYERED = (  # two and three layers, windows from the query and from the anchor, latent attention
    ("hass-two-layers", "as_trained"),
    ("speculators-qwen3", "as_trained"),
    ("speculators-qwen3", "as_served:vllm"),
    ("fork", "as_trained"),
    ("mla", "as_trained"),
)


@pytest.fixture
def blocks(models: Path, tmp_path: Path) -> LoadedPair:
    drafter = write(CASES["deepspec-rnn"], tmp_path / "block")
    return load_pair(str(models / "target"), str(drafter), torch.device("cpu"), "float32")


def drafted(pair: LoadedPair, trajectory: Trajectory, depth: int, *, free: bool) -> Drafted:
    return draft(pair, [trajectory], DraftSettings(depth), depth, free=free)


def assert_served_equal_drafted(pair: LoadedPair) -> None:
    (trajectory,) = trajectories(pair.target, prompts(1), boundaries(pair), 16)
    wanted = drafted(pair, trajectory, DEPTH, free=True)
    places = [0, 1, 3, 6, wanted.n_anchors - 1]
    chains = torch.stack([queries.guesses.drafted[places] for queries in wanted.free], dim=1)
    served = serve(pair.drafter, len(trajectory.ids) + DEPTH, DEPTH)
    assert torch.equal(served_chains(served, trajectory, DEPTH, places), chains)
    assert len({tuple(chain) for chain in chains.tolist()}) > 1, "a drafter that always says the same proves nothing"


@pytest.mark.parametrize("name", NAMES)
def test_served_chains_equal_the_free_chains_of_the_engine(name: str, pair: Callable[[str], LoadedPair]) -> None:
    assert_served_equal_drafted(pair(name))


@pytest.mark.parametrize(("name", "reading"), LAYERED)
def test_served_chains_of_every_layer_kind_equal_those_of_the_engine(name: str, reading: str, layouts: Path) -> None:
    folders = str(layouts / "target"), str(layouts / name)
    assert_served_equal_drafted(load_pair(*folders, torch.device("cpu"), "float32", reading=reading))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["zlab", "zlab-sliding", "zlab-causal", "speculators-sliding", "deepspec-vanilla", "deepspec-rnn"])
def test_served_blocks_equal_those_of_the_engine(name: str, models: Path, tmp_path: Path) -> None:
    drafter = str(write(CASES[name], tmp_path / name))
    assert_served_equal_drafted(load_pair(str(models / "target"), drafter, torch.device("cpu"), "float32", reading="as_trained"))


@pytest.mark.parametrize("name", ["trained-post", "lm", "block"])
def test_sequences_of_a_batch_draft_as_each_alone(name: str, pair: Callable[[str], LoadedPair], blocks: LoadedPair) -> None:
    loaded = blocks if name == "block" else pair(name)
    texts = trajectories(loaded.target, [prompts(4)[1], prompts(4)[3]], boundaries(loaded), 16)
    length = min(len(text.ids) for text in texts) - 2
    alone, together = [], serve(loaded.drafter, length + DEPTH, DEPTH)
    tokens = torch.stack([text.ids[together.token_offset : length] for text in texts])
    streams = [some({b: s[None] for b, s in text.streams.items()}, slice(0, tokens.shape[1])) for text in texts]
    for sequence, of_one in zip(tokens, streams, strict=True):
        drafter = serve(loaded.drafter, length + DEPTH, DEPTH)
        alone.append([drafter.read(sequence[None], of_one)])
        alone[-1] += [drafter.follow(alone[-1][0])]
    chain = [together.read(tokens, {b: torch.cat([one[b] for one in streams]) for b in streams[0]})]
    chain.append(together.follow(chain[0]))
    assert torch.equal(torch.stack(chain, dim=1), torch.stack([torch.cat(one) for one in alone]))


@pytest.mark.parametrize("name", ["trained-pre", "lm", "block"])
def test_a_repeated_sequence_goes_on_in_every_place_as_it_would_alone(
    name: str, pair: Callable[[str], LoadedPair], blocks: LoadedPair
) -> None:
    loaded = blocks if name == "block" else pair(name)
    (text,) = trajectories(loaded.target, prompts(1), boundaries(loaded), 16)
    found, rows = [], text.prompt_length
    for size in (1, 3):
        drafter, target = serve(loaded.drafter, len(text.ids) + DEPTH, DEPTH), ServedTarget(loaded.target)
        tokens = text.ids[None, drafter.token_offset :]
        streams = {boundary: stream[None] for boundary, stream in text.streams.items()}
        drafter.read(tokens[:, :rows], some(streams, slice(0, rows)))
        target.read(tokens[:, :rows], 1)
        drafter.repeat(size)
        target.repeat(size)
        later = {boundary: stream.expand(size, -1, -1) for boundary, stream in some(streams, slice(rows, rows + 2)).items()}
        chain = [drafter.read(tokens[:, rows : rows + 2].expand(size, -1), later)]
        chain += [drafter.follow(chain[0])]
        choices = target.read(tokens[:, rows : rows + 2].expand(size, -1), 2).choices
        found.append(torch.cat([torch.stack(chain, dim=1), choices], dim=1))
    assert torch.equal(found[0].expand(3, -1), found[1])


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("name", ["trained-pre", "trained-post", "lm", "target"])
def test_speculative_replies_equal_those_of_transformers_and_keep_what_the_walk_of_the_engine_keeps(
    name: str, depth: int, pair: Callable[[str], LoadedPair], models: Path
) -> None:
    loaded, counted = pair(name), list[int]()
    plain = LlamaForCausalLM.from_pretrained(models / "target").eval()
    for trajectory in trajectories(loaded.target, prompts(4), boundaries(loaded), 30):
        start, ids = trajectory.prompt_length, trajectory.ids
        said = plain.generate(ids[None, :start], max_new_tokens=30, do_sample=False)[0, start:].tolist()
        spoken = decode_speculatively(loaded, ids[:start].tolist(), 30, depth)
        assert spoken.reply == said == decode_plainly(loaded, ids[:start].tolist(), 30).reply
        result = drafted(loaded, trajectory, depth, free=False)
        match = [q.guesses.drafted == ids[start + d : start + d + result.n_anchors] for d, q in enumerate(result.forced, 1)]
        accepted = leading_matches(torch.stack(match, dim=1).numpy())
        visited = accepted[np.flatnonzero(walk(accepted))].tolist()
        assert spoken.kept[: len(visited)] == visited
        counted += visited
    right = sum(counted) / len(counted)
    assert right == depth if name == "target" else 0 < right < depth


def test_a_target_whose_layers_slide_reads_on_after_tokens_are_taken_back_beyond_its_window() -> None:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=260, hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        sliding_window=6, initializer_range=0.2,
    )  # fmt: skip
    model = MistralForCausalLM(config).eval()
    ids = torch.randint(0, 260, (1, 40), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        choices = model(ids).logits[0].argmax(-1).tolist()
    target, found = ServedTarget(LanguageModel(Source("sliding", Path()), model, tokenizer()), [2]), []
    for start in range(0, 40, 4):
        wrong = torch.cat([ids[:, start : start + 4], ids[:, :3]], dim=1)
        found += target.read(wrong, 7).choices[0, :4].tolist()
        target.crop(start + 4)
    assert found == choices


def test_a_step_over_several_tokens_hands_on_the_streams_of_one_plain_pass(pair: Callable[[str], LoadedPair]) -> None:
    loaded = pair("post")
    (trajectory,) = trajectories(loaded.target, prompts(1), [2, 5], 16)
    served, start, ids = ServedTarget(loaded.target, [2, 5]), trajectory.prompt_length, trajectory.ids[None]
    served.read(ids[:, :start], 1)
    served.read(ids[:, :3], 3)
    served.crop(start)
    step = served.read(ids[:, start : start + 5], 5)
    for boundary, stream in step.streams.items():
        torch.testing.assert_close(stream[0], trajectory.streams[boundary][start : start + 5], rtol=1e-4, atol=1e-5)
    assert step.choices[0].tolist() == trajectory.ids[start + 1 : start + 6].tolist()


def test_a_target_that_keeps_a_state_is_refused_with_what_to_do(pair: Callable[[str], LoadedPair], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = pair("post")
    monkeypatch.setattr(loaded.target.config, "layer_types", ["linear_attention", "full_attention"], raising=False)
    with pytest.raises(RunError, match=r"layers of type linear_attention cannot take .* --costs"):
        ServedTarget(loaded.target)
