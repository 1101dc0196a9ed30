"""Texts that are read and drafted on side by side give the rows that they give one by one, in whatever company."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from driftcli.conditions import DraftSettings, Noise
from driftcli.domain import RunSpec
from driftcli.engine.cells import draft
from driftcli.engine.drafted import Apart, Drafted, Queries
from driftcli.engine.run import Job
from driftcli.engine.texts import Text
from driftcli.engine.trajectories import Trajectory, read_texts
from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.target import together as bounds
from driftcli.target.in_process import turns_by_length
from driftcli.target.together import together
from tests.benchmarks.launches import counted
from tests.families.block.cases import CASES, write
from tests.tiny import bare_trajectory, prompts, write_head, write_noisy_copy, write_target

DEPTH, CPU = 4, torch.device("cpu")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedPair]:
    folder = tmp_path_factory.mktemp("together")
    target, head = write_target(folder / "target"), write_head(folder / "head")
    tiny = load_pair(str(target), str(head), CPU, "float32")
    lm = load_pair(str(target), str(write_noisy_copy(target, folder / "lm")), CPU, "float32")
    blocks = {name: load_pair(str(target), str(write(CASES[case], folder / name)), CPU, "float32") for name, case in BLOCKS.items()}
    return {"eagle": tiny, "mtp": load_pair("bundled:target", "bundled:mtp", CPU, "float32"), "lm": lm, **blocks}


def random_texts(pair: LoadedPair, count: int, seed: int) -> list[Text]:
    """Texts of random tokens and lengths; some have no anchor with all guesses inside, one has a prompt of one token."""
    source, vocabulary = random.Random(seed), len(pair.target.embedding)
    shapes = [(1, 12), (30, DEPTH - 1), *((source.randint(2, 60), source.randint(2, 40)) for _ in range(count - 2))]
    made = []
    for number, (prompt, reply) in enumerate(shapes):
        ids = torch.tensor([source.randrange(vocabulary) for _ in range(prompt + reply)])
        made.append(bare_trajectory(f"p{number}", ids, prompt, {}).text)
    return made


def read(pair: LoadedPair, texts: Sequence[Text], size: int, monkeypatch: pytest.MonkeyPatch) -> list[Trajectory]:
    """The texts read so many at once."""
    boundaries = [] if isinstance(pair.drafter, CausalLm) else pair.drafter.boundaries
    found = []
    for at in range(0, len(texts), size):
        some = texts[at : at + size]
        monkeypatch.setattr(bounds, "ON_CPU", len(some) * max(len(text.ids) for text in some))
        found += list(read_texts(pair.target, some, boundaries))
    return found


def assert_same(one: Tensor | None, other: Tensor | None) -> None:
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        largest = float(one.nan_to_num(0).abs().max()) if one.numel() else 1.0
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * max(1.0, largest), equal_nan=True)


def assert_same_queries(alone: Sequence[Queries], beside: Queries) -> None:
    assert torch.equal(torch.cat([one.guesses.drafted for one in alone]), beside.guesses.drafted)
    joined = Queries.joined(alone)
    assert_same(joined.state, beside.state)
    for name in ("draft_prob", "wanted_prob", "entropy"):
        assert_same(getattr(joined.guesses, name), getattr(beside.guesses, name))
    assert joined.masses is not None and beside.masses is not None
    for name in ("label", "first", "tail", "entropy"):
        assert_same(getattr(joined.masses, name), getattr(beside.masses, name))


SETTINGS = {
    "plain": DraftSettings(DEPTH),
    "window": DraftSettings(DEPTH, window=7, kept="sink"),
    "biased": DraftSettings(DEPTH, sink_bias=0.5, chain_bias=-0.25, warming=0.1),
    "noise": DraftSettings(DEPTH, noise=Noise("state", 0.3, 1)),
    "pinned": DraftSettings(DEPTH, pinned=True),
    "reanchored": DraftSettings(DEPTH, reanchored=2),
}
ENDING = ("plain", "window")
BLOCKS = {"dflash": "zlab", "dflash sliding": "speculators-sliding", "dspark": "deepspec-rnn"}


@pytest.mark.parametrize("size", [1, 2, 7, 12])
def test_streams_and_what_the_target_says_are_the_same_in_any_company(
    size: int, pairs: dict[str, LoadedPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = pairs["eagle"]
    texts = random_texts(pair, 12, size)
    for one, other in zip(read(pair, texts, 1, monkeypatch), read(pair, texts, size, monkeypatch), strict=True):
        assert one.text == other.text and torch.equal(one.choices, other.choices)
        assert one.streams.keys() == other.streams.keys()
        for found, beside in ((one.target_prob, other.target_prob), (one.target_entropy, other.target_entropy)):
            assert_same(found, beside)
        for boundary, stream in one.streams.items():
            assert stream.shape == (len(one.text.ids) - 1, stream.shape[1])
            assert_same(stream, other.streams[boundary])


def test_a_model_that_never_calls_its_output_head_is_read_alike(pairs: dict[str, LoadedPair], monkeypatch: pytest.MonkeyPatch) -> None:
    pair = pairs["eagle"]
    texts = random_texts(pair, 5, 0)
    expected = read(pair, texts, 5, monkeypatch)
    monkeypatch.setattr("driftcli.target.asked.Asked._pick", lambda _, __, args: args)
    for one, other in zip(expected, read(pair, texts, 5, monkeypatch), strict=True):
        assert torch.equal(one.choices, other.choices)
        assert_same(one.target_prob, other.target_prob)


@pytest.mark.parametrize("type_key", ["rope_type", "type"])
def test_a_target_that_turns_tokens_by_length_is_known_by_its_config(type_key: str) -> None:
    assert turns_by_length({"rope_parameters": {"full_attention": {type_key: "dynamic"}}})
    assert not turns_by_length({"rope_parameters": {"full_attention": {type_key: "yarn"}}, "model_type": "llama"})


@pytest.mark.parametrize(
    ("name", "setting", "size", "block"),
    [
        *(("eagle", setting, size, 1 << 23) for setting in SETTINGS for size in (2, 7)),
        *(("eagle", "plain", 12, block) for block in (1, 1 << 12, 1 << 23)),
        *((name, "plain", size, 1 << 23) for name in ("mtp", "lm") for size in (2, 12)),
        ("lm", "plain", 7, 1 << 9),
        *((name, setting, size, 1 << 23) for name in BLOCKS for setting in ENDING for size in (2, 12)),
        *((name, "plain", 7, 1 << 9) for name in BLOCKS),
    ],
)
def test_chains_are_the_same_in_any_company(
    name: str, setting: str, size: int, block: int, pairs: dict[str, LoadedPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, settings = pairs[name], SETTINGS[setting]
    texts = read(pair, random_texts(pair, 12, size), 1, monkeypatch)
    ends = setting in ENDING
    apart = [Apart([0, 3], [0, 3]) if settings.window or settings.sink_bias else Apart() for _ in texts]
    able = [place for place, text in enumerate(texts) if text.n_anchors(1 if ends else DEPTH)]

    def drafted(some: Sequence[int]) -> Drafted:
        beside, rows = [texts[place] for place in some], [apart[place] for place in some]
        return draft(pair, beside, settings, DEPTH, free=True, to_end=ends, apart=rows)

    lone = {place: drafted([place]) for place in able}
    monkeypatch.setattr("driftcli.engine.attention.BLOCK_ON_CPU", block)
    monkeypatch.setattr("driftcli.engine.block_chains.TOGETHER_ON_CPU", max(1, block >> 3))
    for at in range(0, len(able), size):
        some = able[at : at + size]
        found = drafted(some)
        alone = [lone[place] for place in some]
        assert found.anchors.counts == tuple(one.n_anchors for one in alone)
        assert_same_queries([one.fresh for one in alone], found.fresh)
        anchored = [one for one in alone if one.n_anchors]
        for depth in range(DEPTH if anchored else 0):
            assert_same_queries([one.forced[depth] for one in anchored], found.forced[depth])
            assert_same_queries([one.free[depth] for one in anchored], found.free[depth])
            assert_same_queries([one.control(depth + 1) for one in anchored], found.control(depth + 1))
        if ends:
            assert found.kept_behind is not None
            assert torch.equal(torch.cat([one.kept_behind for one in alone if one.kept_behind is not None]), found.kept_behind)


def test_as_many_are_computed_side_by_side_as_there_is_room_for_and_one_is_never_left_out() -> None:
    lengths = [5, 5, 6, 30, 4, 4, 4]
    assert together(lengths, 18) == [slice(0, 3), slice(3, 4), slice(4, 7)]
    assert together(lengths, 1) == [slice(at, at + 1) for at in range(7)]
    assert together([], 10) == []


@pytest.mark.parametrize("name", ["eagle", "mtp", "lm", "dflash", "dspark"])
def test_operations_hardly_grow_with_the_number_of_texts(name: str, pairs: dict[str, LoadedPair], tmp_path: Path) -> None:
    def operations(count: int) -> int:
        spec = RunSpec(depth=DEPTH, max_new_tokens=12)
        counts = counted(Job(pairs[name], prompts(count), (), spec, tmp_path / str(count), []))
        return counts.total() - counts["writing replies"]

    assert operations(16) <= 1.5 * operations(4)
