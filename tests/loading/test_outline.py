from __future__ import annotations

from pathlib import Path

import pytest
import torch

from driftcli.errors import SourceError
from driftcli.loading.outline import outline_pair
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.target.language_model import LanguageModel
from tests.families.block.cases import CASES, write
from tests.layouts import LAYOUTS

CPU = torch.device("cpu")


def numbers(model: LanguageModel) -> int:
    return sum(parameter.numel() for parameter in model.model.parameters())


def assert_same_card(pair: LoadedPair, target: str, drafter: str) -> None:
    """The cards agree, but for embeddings: whether a head's own are the target's is told by weights alone."""
    card = outline_pair(target, drafter).card
    more = [wiring for wiring in card.alternatives if wiring not in pair.card.alternatives]
    assert [wiring for wiring in card.alternatives if wiring not in more] == list(pair.card.alternatives)
    assert all(set(wiring.changes) == {"embedding"} for wiring in more)
    for field in ("family", "no_recursion", "token_offset", "rendering", "target_positions"):
        assert getattr(card, field) == getattr(pair.card, field), field
    told = {name: field for name, field in card.record.items() if name not in ("embedding", "head")}
    assert {name: pair.card.record.get(name) for name in told} == told


@pytest.mark.parametrize("layout", [each.name for each in LAYOUTS])
def test_headers_tell_the_card_of_a_head_that_loading_it_tells(layout: str, layouts: Path) -> None:
    target, drafter = str(layouts / "target"), str(layouts / layout)
    assert_same_card(load_pair(target, drafter, CPU, "float32"), target, drafter)


@pytest.mark.parametrize("name", ["zlab-sliding", "deepspec-vanilla", "speculators-reduced"])
def test_headers_tell_the_card_of_a_block_drafter_that_loading_it_tells(name: str, models: Path, tmp_path: Path) -> None:
    target, drafter = str(models / "target"), str(write(CASES[name], tmp_path / name))
    assert_same_card(load_pair(target, drafter, CPU, "float32"), target, drafter)


@pytest.mark.parametrize("drafter", ["pre", "post", "lm"])
def test_sizes_are_those_of_the_loaded_models(drafter: str, models: Path) -> None:
    pair, outline = (
        load_pair(str(models / "target"), str(models / drafter), CPU, "float32"),
        outline_pair(str(models / "target"), str(models / drafter)),
    )
    assert outline.target.parameters == numbers(pair.target)
    assert outline.target.head == tuple(pair.target.head.shape)
    assert sum(outline.target.stored.values()) == 4 * numbers(pair.target)
    inner, width, layers = 96, 48, 8
    assert len(outline.target.products) == 7 * layers and outline.target.products.count((inner, width)) == 2 * layers
    assert outline.card.family == pair.card.family


def test_the_targets_modules_hold_no_numbers(models: Path) -> None:
    assert all(parameter.is_meta for parameter in outline_pair(str(models / "target"), str(models / "pre")).model.model.parameters())


def test_a_target_without_its_weights_is_enough_but_not_for_the_head_inside_it(models: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in (models / "target").iterdir():
        if file.suffix != ".safetensors":
            (bare / file.name).write_bytes(file.read_bytes())
    assert (
        outline_pair(str(bare), str(models / "pre")).target.parameters
        == outline_pair(str(models / "target"), str(models / "pre")).target.parameters
    )
    with pytest.raises(SourceError, match="lies in the target's weights, which are not here"):
        outline_pair(str(bare), "mtp")
