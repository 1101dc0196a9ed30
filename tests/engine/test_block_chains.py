"""Blocks as the engine drafts them equal what the producers' own classes compute (`make_block_steps.py`), and their attention is whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from driftcli.conditions import Wiring
from driftcli.domain import REGIONS, System
from driftcli.engine.drafted import Queries
from driftcli.families.block.alternatives import alternatives
from driftcli.families.block.declaration import declare_block
from driftcli.families.block.drafter import Block
from driftcli.families.block.loading import read_block
from driftcli.families.formats import detect
from driftcli.sources.checkpoint import open_checkpoint
from driftcli.sources.files import Source
from driftcli.target.language_model import LanguageModel
from tests.edits import edit_config
from tests.engine.golden import (
    ANCHORS,
    FIRST,
    TOLERANCE,
    TRAINED,
    VLLM,
    draft_block,
    golden_block,
    golden_target,
    off,
    read_block_case,
    text,
)
from tests.engine.regions import shares_of
from tests.families.block.cases import CANDIDATES, CASES, write
from tests.tiny import WIDTH

ALIKE = [  # cases that vLLM computes as their producers do, whatever the rows
    name for name in CASES if not any(part in name for part in ("zlab-scaled", "speculators-sliding", "dflash2-sliding", "gated", "rnn"))
]
ASKED: list[tuple[str, System, int]] = [
    *((name, TRAINED, 5) for name in CASES),
    *((name, VLLM, rows) for name in ALIKE for rows in (3, 5)),
]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return golden_target(tmp_path_factory.mktemp("golden") / "target")


@pytest.mark.parametrize(("name", "system", "rows"), ASKED)
def test_blocks_of_every_anchor_equal_the_producers_class(
    name: str, system: System, rows: int, target: LanguageModel, tmp_path: Path
) -> None:
    golden, block = golden_block(name), read_block_case(name, target, tmp_path, system)
    found, _ = draft_block(block, rows - (not block.anchor_first))
    assert off(found, golden[f"rows.{rows}"]) < TOLERANCE


CONFIDENT = (
    "deepspec-vanilla",
    "deepspec-gated",
    "deepspec-rnn",
    "deepspec-output-confidence",
    "deepspec-gemma4",
    "deepspec-gemma4-gated",
    "speculators-dspark-filled-confident",
)


def told(queries: Sequence[Queries]) -> Tensor:
    """The logits of what the confidence head said, (anchor, depth)."""
    said = [one.guesses.confidence for one in queries]
    return torch.stack([one for one in said if one is not None], dim=1).logit()


def test_the_cases_with_a_confidence_head_are_those() -> None:
    heads = {name for name, case in CASES.items() if "confidence_head.proj.weight" in case.tensors}
    assert heads == set(CONFIDENT)


@pytest.mark.parametrize("rows", [3, 5])
@pytest.mark.parametrize("name", CONFIDENT)
def test_a_confidence_head_says_what_the_producers_class_says(name: str, rows: int, target: LanguageModel, tmp_path: Path) -> None:
    golden, block = golden_block(name), replace(read_block_case(name, target, tmp_path), as_trained=False)
    _, drafted = draft_block(block, rows - (not block.anchor_first), free=True)
    count, wanted = min(ANCHORS, drafted.n_anchors), golden[f"confidence.rows.{rows}"]
    torch.testing.assert_close(told(drafted.forced)[:count], wanted[:count], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(told([drafted.fresh])[:ANCHORS, 0], wanted[:, 0], atol=1e-4, rtol=1e-4)
    if name.startswith("deepspec"):
        torch.testing.assert_close(told(drafted.free)[:count], golden[f"confidence.own.{rows}"][:count], atol=1e-4, rtol=1e-4)
    assert float(wanted.std()) > 0.1  # numbers that differ, so that one could be mistaken for another
    assert block.confidence is not None
    if block.confidence.before is not None:
        mistaken = replace(block, confidence=replace(block.confidence, before=block.confidence.before.roll(1, 0)))
        _, other = draft_block(mistaken, rows - (not block.anchor_first))
        assert float((told(other.forced)[:count] - wanted[:count]).abs().max()) > 0.01


def test_a_drafter_without_a_confidence_head_says_nothing(target: LanguageModel, tmp_path: Path) -> None:
    _, drafted = draft_block(read_block_case("deepspec-none", target, tmp_path), 3, free=True)
    assert all(queries.guesses.confidence is None for queries in (*drafted.forced, *drafted.free, drafted.fresh))


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("deepspec")])
def test_a_free_block_is_corrected_along_its_own_guesses(name: str, target: LanguageModel, tmp_path: Path) -> None:
    golden, block = golden_block(name), read_block_case(name, target, tmp_path)
    found, drafted = draft_block(block, 5, free=True)
    own = golden["own.5"]
    assert off(found[-5:], own) < TOLERANCE
    count = drafted.n_anchors
    guessed = torch.stack([queries.guesses.drafted for queries in drafted.free], dim=1)
    torch.testing.assert_close(guessed, own[:count].argmax(-1))
    if not name.endswith("none"):
        assert off(found[:5], own) > 100 * TOLERANCE


@pytest.mark.parametrize("name", ["zlab-dflash2", "zlab-dflash2-scaled"])
def test_a_selector_walks_as_its_producer_does_and_drafts_candidates_alone(name: str, target: LanguageModel, tmp_path: Path) -> None:
    walk, (_, drafted) = golden_block(name)["own.5"], draft_block(read_block_case(name, target, tmp_path), 4, free=True)
    count = drafted.n_anchors
    guessed = torch.stack([queries.guesses.drafted for queries in drafted.free], dim=1)
    torch.testing.assert_close(guessed, walk[:count])
    for queries in drafted.forced:
        assert (queries.guesses.draft_prob >= 1 / CANDIDATES).all() and (queries.guesses.entropy <= math.log(CANDIDATES)).all()
        assert (queries.guesses.wanted_prob == 0).any()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("zlab-dflash2", lambda block: replace(block, layers=tuple(replace(one, around=None) for one in block.layers))),
        ("zlab-dflash2", lambda block: replace(block, layers=tuple(replace(one, around=one.around[::-1]) for one in block.layers))),
        ("zlab-dflash2", lambda block: replace(block, correction=replace(block.correction, count=CANDIDATES - 1))),
        ("speculators-dflash2", lambda block: replace(block, correction=replace(block.correction, before=block.correction.after))),
        ("zlab", lambda block: replace(block, layers=tuple(replace(one, causal=True) for one in block.layers))),
        ("zlab", lambda block: replace(block, block_size=4)),
        ("zlab", lambda block: replace(block, mask=3)),
        ("zlab", lambda block: replace(block, fusion=block.fusion.roll(WIDTH, dims=1))),
        ("zlab", lambda block: block.wired(Wiring(rotation="pairs"))),
        ("zlab-causal", lambda block: replace(block, layers=tuple(replace(one, causal=False) for one in block.layers))),
        ("zlab-sliding", lambda block: windowed(block, 3)),
        ("zlab-sliding", lambda block: windowed(block, 5)),
        ("zlab-sliding-open", lambda block: windowed(block, None)),
        ("speculators-sliding", lambda block: windowed(block, 4, from_anchor=False)),
        ("speculators-sliding-open", lambda block: windowed(block, 3, from_anchor=True)),
        ("deepspec-vanilla", lambda block: replace(block, correction=None)),
        ("deepspec-rnn", lambda block: replace(block, correction=replace(block.correction, joint=None))),
        ("zlab-scaled", lambda block: replace(block, scales=(1.7, 0.6, 0.0))),
        ("deepspec-gemma4", lambda block: replace(block, scales=(1.0, *block.scales[1:]))),
        ("deepspec-gemma4", lambda block: replace(block, scales=(*block.scales[:2], 0.0))),
        ("deepspec-gemma4", lambda block: of_layers(block, scalar=None)),
        ("deepspec-gemma4", lambda block: of_layers(block, attended_gain=None)),
        ("deepspec-gemma4", lambda block: of_layers(block, out_gain=None)),
        ("deepspec-gemma4", lambda block: of_attention(block, unscaled=False)),
        ("deepspec-gemma4-gated", lambda block: of_attention(block, v=None)),
        ("deepspec-gemma4-none", lambda block: of_layers(block, mlp=replace(block.layers[0].layer.mlp, gelu=False))),
    ],
)
def test_a_block_put_together_otherwise_is_told_from_it(name: str, wrong: object, target: LanguageModel, tmp_path: Path) -> None:
    assert callable(wrong)
    found, _ = draft_block(wrong(read_block_case(name, target, tmp_path)), 3 if name == "zlab" else 4)
    assert off(found, golden_block(name)["rows.5"]) > 100 * TOLERANCE


def of_layers(block: Block, **changed: object) -> Block:
    """The same with its layers changed."""
    return replace(block, layers=tuple(replace(one, layer=replace(one.layer, **changed)) for one in block.layers))  # type: ignore[arg-type]


def of_attention(block: Block, **changed: object) -> Block:
    """The same with its first layer's attention changed."""
    first, *others = block.layers
    layer = replace(first.layer, attention=replace(first.layer.attention, **changed))  # type: ignore[type-var]
    return replace(block, layers=(replace(first, layer=layer), *others))


def windowed(block: Block, window: int | None, *, from_anchor: bool = False) -> Block:
    """The same with another window in its first layer."""
    first, *others = block.layers
    return replace(block, layers=(replace(first, layer=replace(first.layer, window=window, from_anchor=from_anchor)), *others))


def test_norms_and_bias_of_another_wiring_are_those_of_a_checkpoint_that_says_so(target: LanguageModel, tmp_path: Path) -> None:
    block = read_block_case("deepspec-vanilla", target, tmp_path)
    checkpoint = open_checkpoint(Source("other", edit_config(tmp_path / "deepspec-vanilla", rms_norm_eps=0.1)))
    declaration = declare_block(checkpoint, detect(checkpoint.source, checkpoint.config, checkpoint.shapes), target.facts)
    far, _ = draft_block(read_block(declaration, target, TRAINED)[0], 5)
    assert off(draft_block(block.wired(Wiring(eps=0.1)), 5)[0], torch.stack(far, dim=1)) < TOLERANCE
    assert off(draft_block(block, 5)[0], torch.stack(far, dim=1)) > 100 * TOLERANCE
    unbiased = torch.stack(draft_block(replace(block, correction=None), 5)[0], dim=1)
    assert off(draft_block(block.wired(Wiring(bias="left out")), 5)[0], unbiased) < TOLERANCE


@pytest.mark.parametrize("name", ["zlab", "zlab-sliding", "deepspec-vanilla"])
def test_every_wiring_that_the_files_leave_open_gives_other_scores(name: str, target: LanguageModel, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(Source(name, write(CASES[name], tmp_path / name)))
    declaration = declare_block(checkpoint, detect(checkpoint.source, checkpoint.config, checkpoint.shapes), target.facts)
    block, _ = read_block(declaration, target)
    plain, _ = draft_block(block, 4)
    for wiring in alternatives(declaration, None, (1, 2)):
        if wiring.capture is None:  # other layers are other streams, which the golden text does not have
            other, _ = draft_block(block.wired(wiring), 4)
            assert off(other, torch.stack(plain, dim=1)) > 100 * TOLERANCE, str(wiring)


def test_the_rows_of_a_block_change_every_guess_and_those_of_a_causal_one_none(target: LanguageModel, tmp_path: Path) -> None:
    whole, causal = (read_block_case(name, target, tmp_path, VLLM) for name in ("zlab", "zlab-causal"))
    assert (draft_block(whole, 2)[0][0] - draft_block(whole, 4)[0][0]).abs().max() > 0.1
    torch.testing.assert_close(draft_block(causal, 2)[0][0], draft_block(causal, 4)[0][0])


@pytest.mark.parametrize("name", ["zlab", "zlab-sliding", "speculators-sliding"])
def test_regions_of_blocks_and_of_their_controls_sum_to_one_and_are_cut_alike(name: str, target: LanguageModel, tmp_path: Path) -> None:
    block = read_block_case(name, target, tmp_path)
    _, drafted = draft_block(block, 4)
    labels = text(block.boundaries).labels
    for depth in range(1, 5):
        for queries, fresh in ((drafted.forced[depth - 1], False), (drafted.control(depth), True)):
            shares = shares_of(queries.masses, None, labels, drafted.ahead(queries, depth, fresh=fresh))
            total = sum(shares[region] for region in REGIONS if region in shares)
            torch.testing.assert_close(total, torch.ones_like(total))  # type: ignore[arg-type]
    torch.testing.assert_close(drafted.control(1).masses.label, drafted.forced[0].masses.label)


def test_attention_of_one_block_is_what_plain_attention_gives(target: LanguageModel, tmp_path: Path) -> None:
    """The first layer's shares, counted key by key from its own projections."""
    block = read_block_case("zlab", target, tmp_path)
    made, (_, drafted) = text(block.boundaries), draft_block(block, 4)
    anchor, layer = 7, block.layers[0].layer
    context, rope = block.context(block.fuse(made.streams))[:anchor], block.rope(20)
    keys = layer.project(context, torch.arange(anchor), rope).key
    step = layer.project(layer.enter(block.embed(made.ids[anchor : anchor + 1], 5)[0]).inputs, torch.arange(anchor, anchor + 5), rope)
    every = torch.cat([keys, step.key], dim=1).repeat_interleave(2, dim=0)
    weights = (step.query @ every.transpose(1, 2) * layer.scale).softmax(-1)
    for depth in (1, 3):
        own = drafted.forced[depth - 1].masses.pick(torch.tensor([anchor - FIRST]))
        row = weights[:, depth]
        found = torch.stack(
            [row[:, :1].sum(-1), row[:, 1:FIRST].sum(-1), row[:, FIRST : anchor + 1].sum(-1), row[:, anchor + 1 :].sum(-1)], -1
        )
        torch.testing.assert_close(own.label[0, :, 0], found)
        torch.testing.assert_close(own.tail[0, :, 0, :4], row[:, anchor + depth - 3 : anchor + depth + 1].flip(-1))
        torch.testing.assert_close(own.entropy[0, :, 0], torch.special.entr(row).sum(-1))
    control, first = drafted.control(3).masses.pick(torch.tensor([anchor - FIRST - 2])), weights[:, 1]
    ahead = first[:, anchor - 1 :].sum(-1)  # anchored two positions later, and cut at the anchor of the query that it controls
    torch.testing.assert_close(control.label[0, :, 0, 3], ahead)
