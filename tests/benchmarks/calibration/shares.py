"""Shares of simulated runs with what their number leaves open, and the bounds that they must keep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

SURE = 2.5758  # standard deviations of a 99% interval


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many runs."""

    hits: int
    runs: int

    @classmethod
    def of(cls, said: Iterable[object]) -> Share:
        """The share of runs of which something is true."""
        found = [bool(one) for one in said]
        return cls(sum(found), len(found))

    @property
    def value(self) -> float:
        """The share itself, NaN without a run."""
        return self.hits / self.runs if self.runs else float("nan")

    @property
    def limits(self) -> tuple[float, float]:
        """Between what it would lie with endless runs, at 99%. Source: Wilson 1927."""
        if not self.runs:
            return 0.0, 1.0
        spread = SURE**2 / self.runs
        middle = (self.value + spread / 2) / (1 + spread)
        half = SURE * np.sqrt(self.value * (1 - self.value) / self.runs + spread / self.runs / 4) / (1 + spread)
        return float(middle - half), float(middle + half)

    def __str__(self) -> str:
        error = 100 * np.sqrt(max(self.value * (1 - self.value), 0) / self.runs) if self.runs else float("nan")
        return f"{100 * self.value:.1f}±{error:.1f}"


@dataclass(frozen=True, slots=True)
class Bound:
    """What a share must keep, and what it came to."""

    of: str
    share: Share
    at_least: float = 0.0
    at_most: float = 1.0

    @property
    def broken(self) -> bool:
        """Whether the share would surely break it with endless runs too."""
        low, high = self.share.limits
        return high < self.at_least or low > self.at_most

    def __str__(self) -> str:
        asked = f"at least {self.at_least:.1%}" if self.at_least else f"at most {self.at_most:.1%}"
        return f"{'BROKEN' if self.broken else 'holds'}: {self.of}: {self.share}% of {self.share.runs}, {asked}"


@dataclass
class Table:
    """Lines to print and the bounds that they must keep."""

    title: str
    lines: list[str] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)

    def row(self, name: str, cells: Sequence[object]) -> None:
        """One more line: its name and what stands in each column."""
        self.lines.append(f"{name:<44}" + "".join(f"{cell!s:>12}" for cell in cells))

    def __str__(self) -> str:
        held = sum(not bound.broken for bound in self.bounds)
        kept = [f"{held} of {len(self.bounds)} bounds hold"] if self.bounds else []
        return "\n".join([f"== {self.title}", *self.lines, *kept, *(str(bound) for bound in self.bounds if bound.broken)])
