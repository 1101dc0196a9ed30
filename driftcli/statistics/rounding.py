"""How many draft tokens are others in float32: what a shorter dtype does to a drafter, counted on texts that were measured in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from driftcli.domain import Absent, Estimate
from driftcli.statistics.intervals import Bootstrap, within
from driftcli.statistics.walks import Floats, Sums, ratio


@dataclass(frozen=True, slots=True)
class Apart:
    """Counts of one prompt: anchors, those of them whose chain has another draft token, draft tokens, and those of them that are others."""

    anchors: int
    other_anchors: int
    drafted: int
    other_drafted: int


@dataclass(frozen=True, slots=True)
class Rounding:
    """What float32 changes on some texts of a run. tokens: of these texts; prompts: counts of each; reason: why it was not measured, empty
    where it was.
    """

    texts: int = 0
    tokens: int = 0
    prompts: tuple[Apart, ...] = ()
    reason: str = ""


@within(0, 1)
def other_anchors(sums: Sums) -> Floats:
    """Share of anchors whose chain has another draft token; (draw,)."""
    return ratio(sums["other_anchors"], sums["anchors"])


@within(0, 1)
def other_drafted(sums: Sums) -> Floats:
    """Share of draft tokens that are others; (draw,)."""
    return ratio(sums["other_drafted"], sums["drafted"])


def shares(prompts: Sequence[Apart], seed: int) -> tuple[Estimate | Absent, Estimate | Absent]:
    """Both shares, of anchors and of draft tokens, with intervals over prompts."""
    names = ("anchors", "other_anchors", "drafted", "other_drafted")
    sums = {name: np.array([getattr(one, name) for one in prompts], dtype=np.float64) for name in names}
    draws = Bootstrap.of(len(prompts), seed)
    return draws.estimate(sums, other_anchors), draws.estimate(sums, other_drafted)
