"""Intervals over prompts: what a number could be on other prompts of the same kind.

A statistic is a function of sums over anchors, pooled over units: the ratio of sums, not the mean of ratios. Units are prompts, or groups
of prompts that belong together. They are drawn with replacement, so the anchors of one unit, which are anything but independent, never
count as separate evidence. The percentiles of such draws are too narrow for few units, by the square root of (n - 1) / n and by the normal
quantile where Student's is due; the interval is widened around the value by both. Where every unit says the same there is nothing to draw
from: the interval is then what so many units cannot exclude.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeAlias

import numpy as np

from driftcli.domain import Absent, Estimate
from driftcli.statistics.distributions import student_quantile
from driftcli.statistics.walks import MINIMAL_PROMPTS, Floats, Sums

DRAWS = 2000  # bootstrap draws; the 2.5% tail then rests on 50 of them (chosen by us)
DEFINED_DRAWS = 0.95  # share of draws in which a statistic must be defined; dropping more would bend its interval (chosen by us)
TAIL = 0.025  # on either side of a 95% interval
NORMAL = 1.959964  # standard deviations from the middle of a normal distribution to that tail
UNDEFINED = "nothing to divide by: no such observation in this run"
ALIKE = 1e-12  # spread of the draws, of the value, below which every unit says the same: rounding leaves that much

Statistic: TypeAlias = Callable[[Sums], Floats]
Reach: TypeAlias = Callable[[float, float], tuple[float, float]]  # value and share of units that may be otherwise -> what is not excluded


@dataclass(frozen=True)
class Bounded:
    """A statistic that cannot leave `lowest .. highest`, the latter a number or told by the sums.

    exact: how many of its first entries are what they are by definition, whatever the prompts. harmonic: it is tokens over rounds, so a
    unit of short rounds weighs as much more.
    """

    statistic: Statistic
    lowest: float
    highest: float | Callable[[Sums], float]
    exact: int = 0
    harmonic: bool = False

    def __call__(self, sums: Sums) -> Floats:
        """The statistic itself."""
        return self.statistic(sums)

    def limits(self, sums: Sums) -> tuple[float, float]:
        """Between what it always lies."""
        return self.lowest, self.highest(sums) if callable(self.highest) else self.highest

    def reach(self, sums: Sums) -> Reach:
        """What it would be if a share of all units lay at either limit."""
        low, high = self.limits(sums)

        def reached(value: float, share: float) -> tuple[float, float]:
            if self.harmonic:
                return 1 / ((1 - share) / value + share / low), 1 / ((1 - share) / value + share / high)
            return (1 - share) * value + share * low, (1 - share) * value + share * high

        return reached


def within(lowest: float, highest: float | Callable[[Sums], float], *, exact: int = 0) -> Callable[[Statistic], Bounded]:
    """Says of a statistic that it lies between two numbers, the larger one perhaps told by the sums."""
    return lambda statistic: Bounded(statistic, lowest, highest, exact)


def tokens_a_round(most: Callable[[Sums], float]) -> Callable[[Statistic], Bounded]:
    """Says of a statistic that it is tokens over rounds, from 1 to a number that the sums tell."""
    return lambda statistic: Bounded(statistic, 1.0, most, harmonic=True)


class Mapped(Mapping[str, Floats]):
    """Sums with every array changed by one function, each when it is first asked for: a statistic asks for a few of many."""

    def __init__(self, sums: Sums, change: Callable[[Floats], Floats]) -> None:
        self._sums, self._change = sums, change
        self._changed: dict[str, Floats] = {}

    def __getitem__(self, name: str) -> Floats:
        if name not in self._changed:
            self._changed[name] = self._change(self._sums[name])
        return self._changed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sums)

    def __len__(self) -> int:
        return len(self._sums)


@dataclass(frozen=True)
class Bootstrap:
    """Draws of units with replacement, the same for every statistic of a run, so that differences are paired.

    weights: (draw, unit). least: units below which a number has no interval.
    """

    weights: Floats
    least: int = MINIMAL_PROMPTS

    @classmethod
    @cache
    def of(cls, n_units: int, seed: int, least: int = MINIMAL_PROMPTS) -> Bootstrap:
        """`DRAWS` resamplings of `n_units` units."""
        random = np.random.default_rng(seed)
        return cls(random.multinomial(n_units, np.full(n_units, 1 / n_units), size=DRAWS).astype(np.float64), least)

    def estimates(self, sums: Sums, statistic: Statistic, tries: int = 1) -> list[Estimate | Absent]:
        """Value and 95% interval of each entry of `statistic`; for `tries` numbers at once the intervals are wider (Bonferroni).

        sums: (unit, ...) each; the statistic sees them pooled as (draw, ...) and returns (draw,) or (draw, entry).
        """
        bounded = statistic if isinstance(statistic, Bounded) else None
        return self._pooled(
            lambda pool: statistic(Mapped(sums, pool)),
            tries,
            None if bounded is None else bounded.reach(sums),
            (-np.inf, np.inf) if bounded is None else bounded.limits(sums),
            exact=bounded.exact if bounded else 0,
        )

    def estimate(self, sums: Sums, statistic: Statistic, tries: int = 1) -> Estimate | Absent:
        """Value and 95% interval of a single number."""
        (only,) = self.estimates(sums, statistic, tries)
        return only

    def compared(
        self,
        first: Sums,
        second: Sums,
        statistic: Statistic,
        combine: Callable[[Floats, Floats], Floats],
        tries: int = 1,
        other: Statistic | None = None,
    ) -> Estimate | Absent:
        """Value and 95% interval of a single number of the first sums combined with that of the second, draw by draw: their difference, or
        a ratio of them. other: how the number comes from the second sums, where that is another way, such as by other step times.
        """
        of_second = other or statistic

        def number(pool: Callable[[Floats], Floats]) -> Floats:
            return combine(statistic(Mapped(first, pool)), of_second(Mapped(second, pool)))

        if combine is not np.subtract:
            (only,) = self._pooled(number, tries, ratio_reach, (0.0, np.inf))
        else:
            whole = float(np.abs(of_second(Mapped(second, _pool_all)))[0])
            (only,) = self._pooled(number, tries, lambda value, share: (value - share * whole, value + share * whole), (-np.inf, np.inf))
        return only

    def _pooled(
        self,
        number: Callable[[Callable[[Floats], Floats]], Floats],
        tries: int,
        reach: Reach | None,
        limits: tuple[float, float],
        exact: int = 0,
    ) -> list[Estimate | Absent]:
        n_units, value = self.weights.shape[1], np.atleast_1d(number(_pool_all)[0])
        if n_units < self.least:
            why = too_few(n_units, self.least)
            return [Absent(why, float(one), n_units) if np.isfinite(one) else Absent(UNDEFINED) for one in value]
        drawn = number(lambda counts: np.tensordot(self.weights, counts, axes=1))
        drawn = drawn.reshape(len(drawn), -1)
        found = (_estimate(float(value[i]), drawn[:, i], n_units, tries, None if i < exact else reach) for i in range(len(value)))
        return [_clipped(one, limits) for one in found]


def _pool_all(counts: Floats) -> Floats:
    summed: Floats = counts.sum(axis=0, keepdims=True)
    return summed


def ratio_reach(value: float, share: float) -> tuple[float, float]:
    """What a ratio of two conditions may be if a share of all units lost everything under the one or under the other."""
    return value * (1 - share), value / (1 - share)


def mirrored(number: Estimate) -> Estimate:
    """A difference seen from the other side."""
    return replace(number, value=-number.value, low=-number.high, high=-number.low)


def too_few(n_units: int, least: int = MINIMAL_PROMPTS) -> str:
    """Why a number of fewer units than `least` decides nothing."""
    return f"{n_units} prompt{'s' * (n_units != 1)} with a chain, at least {least} are needed"


def student(n_units: int, tries: int = 1) -> float:
    """Standard deviations from a value to the end of its interval, for `tries` intervals at once."""
    return student_quantile(n_units - 1, TAIL / tries)


def widening(n_units: int, tries: int = 1) -> float:
    """By how much the distance from a value to a 95% percentile of its draws is too short for `tries` intervals at once."""
    return float(np.sqrt(n_units / (n_units - 1)) * student(n_units, tries) / NORMAL)


def unseen_share(n_units: int, tries: int = 1) -> float:
    """Share of all units that may be otherwise though none of these is, at 95%: the rule of three, exactly."""
    return float(1 - (2 * TAIL / tries) ** (1 / n_units))


def _estimate(value: float, drawn: Floats, n_units: int, tries: int, reach: Reach | None) -> Estimate | Absent:
    defined = drawn[np.isfinite(drawn)]
    if not np.isfinite(value):
        return Absent(UNDEFINED)
    if len(defined) < DEFINED_DRAWS * len(drawn):
        return Absent(f"too rare: in {1 - len(defined) / len(drawn):.0%} of the resamplings of prompts there is nothing to divide by")
    if np.ptp(defined) <= ALIKE * max(1.0, abs(value)):
        low, high = (value, value) if reach is None else reach(value, unseen_share(n_units, tries))
        return Estimate(value, low, high, n_units)
    low, high = np.quantile(defined, [TAIL, 1 - TAIL])
    wider = widening(n_units, tries)
    return Estimate(value, float(value - wider * (value - low)), float(value + wider * (high - value)), n_units)


def _clipped(one: Estimate | Absent, limits: tuple[float, float]) -> Estimate | Absent:
    if isinstance(one, Absent):
        return one
    low, high = (float(np.clip(end, *limits)) for end in (one.low, one.high))
    return Estimate(one.value, low, high, one.n_prompts)
