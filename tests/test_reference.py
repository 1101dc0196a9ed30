"""The lone drafter, under each layout's formula, computes what the producers' own classes did (`tests/golden/steps`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.layouts import LAYOUTS, layout
from tests.reference import Formula, Lone

STEPS = Path(__file__).parent / "golden" / "steps"
GOLDEN = sorted(path.stem for path in STEPS.glob("*.safetensors"))
READINGS = [(made.name, reading) for made in LAYOUTS for reading in made.formulas]


def golden(stem: str) -> tuple[str, Formula, dict[str, Tensor]]:
    """The layout's name, its formula and the steps in one golden file."""
    name, _, reading = stem.rpartition(".as_")
    return name, layout(name).formulas[f"as_{reading}".replace("-", ":")], load_file(STEPS / f"{stem}.safetensors")


def drafted(lone: Lone, steps: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the golden file holds, drafted alone."""
    ids, depth = steps["ids"].tolist(), len(steps["chain.state"])
    streams = [steps[f"stream.{boundary}"].float() for boundary in lone.formula.boundaries]
    rows = len(streams[0])
    fresh = [lone.chain(ids, streams, row + 1, 1, forced=True)[0] for row in range(rows)]
    chain = lone.chain(ids, streams, rows, depth, forced=True)
    parts = (("fresh", fresh), ("chain", chain))
    return {f"{part}.{what}": torch.stack([getattr(step, what) for step in each]) for part, each in parts for what in ("state", "logits")}


def worst(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference, in units of the root mean square of what it is in."""
    return max(float((tensor - other[key]).abs().max() / other[key].square().mean().sqrt()) for key, tensor in one.items())


@pytest.mark.parametrize("stem", GOLDEN)
def test_the_lone_drafter_equals_the_producers_class(stem: str, layouts: Path) -> None:
    name, formula, steps = golden(stem)
    found = drafted(Lone.of(layouts / name, layouts / "target", formula), steps)
    assert worst(found, steps) < 1e-4


def test_every_layout_has_a_golden_file_but_those_that_only_rename() -> None:
    assert {made.name for made in LAYOUTS} - {stem.rpartition(".as_")[0] for stem in GOLDEN} == {
        "safeai-bin",
        "sglang-legacy-norms",
        "fork-as-saved",
        "eagle1-sglang",
        "eagle1-converted",
    }


FAULTS: dict[str, Callable[[Formula], Formula]] = {
    "the other residual": lambda formula: replace(formula, residual="raw" if formula.residual == "normed" else "normed"),
    "the other feedback": lambda formula: replace(formula, feedback="raw" if formula.feedback == "normed" else "normed"),
    "the other logits": lambda formula: replace(formula, logits_from="raw" if formula.logits_from == "normed" else "normed"),
    "the hidden stream through both norms": lambda formula: replace(formula, hidden_norm="twice"),
    "another theta": lambda formula: replace(formula, rope=replace(formula.rope, theta=2 * formula.rope.theta)),
    "the other pairs of the rope": lambda formula: replace(formula, rope=replace(formula.rope, interleaved=not formula.rope.interleaved)),
    "another amplitude": lambda formula: replace(formula, rope=replace(formula.rope, amplitude=1.1 * formula.rope.amplitude)),
    "a window": lambda formula: replace(formula, windows=(4,)),
}


@pytest.mark.parametrize("fault", [*FAULTS, "halves of the input swapped", "streams in another order"])
@pytest.mark.parametrize("stem", ["safeai.as_trained", "specforge-3.1.as_trained", "specforge-3.1.as_served-vllm", "mla.as_trained"])
def test_a_wrong_formula_does_not_equal_the_producers_class(stem: str, fault: str, layouts: Path) -> None:
    name, formula, steps = golden(stem)
    changed = FAULTS[fault](formula) if fault in FAULTS else formula
    lone = Lone.of(layouts / name, layouts / "target", changed, swap_halves=fault == "halves of the input swapped")
    if fault == "streams in another order":
        low, middle, high = formula.boundaries
        lone.formula = replace(formula, boundaries=(high, middle, low))
    assert worst(drafted(lone, steps), steps) > 1e-2


SAME = {"fork-as-saved": "fork", "safeai-bin": "safeai"}


@pytest.mark.parametrize(("name", "reading"), READINGS)
def test_readings_differ_exactly_where_their_formulas_do(name: str, reading: str, layouts: Path) -> None:
    steps = {"ids": torch.arange(20, 32), "chain.state": torch.zeros(3, 0)}
    random = torch.Generator().manual_seed(5)
    steps.update({f"stream.{boundary}": torch.randn(9, 48, generator=random) for boundary in range(10)})
    mine = layout(name).formulas[reading]
    one = drafted(Lone.of(layouts / name, layouts / "target", mine), steps)
    for other in layout(name).formulas.values():
        theirs = drafted(Lone.of(layouts / name, layouts / "target", other), steps)
        copied = name == "eagle1-sglang" and replace(mine, embedding="own") == replace(other, embedding="own")
        assert (worst(one, theirs) > 1e-2) is (mine != other and not copied)
