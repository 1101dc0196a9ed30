"""One number of two runs held against one another: each on the shared prompts, their difference and their ratio, and its word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from driftcli.comparison.numbers import Number
from driftcli.comparison.words import Word, prompts_to_settle, word_of
from driftcli.domain import Absent, Estimate
from driftcli.statistics.intervals import Bootstrap, Statistic
from driftcli.statistics.walks import Floats, Sums, ratio


@dataclass(frozen=True, slots=True)
class Change:
    """A number of RUN0 and of RUN1, and RUN1 minus RUN0, over RUN0 where it is no share. band: half its width in the number's unit.

    more_prompts: about how many more would settle it, None where it is settled or no number that could be named would do. none_differs: the
    number is the same in both runs on every prompt, though they drafted other tokens: the interval is what so many prompts cannot exclude.
    """

    number: Number
    before: Estimate | Absent
    after: Estimate | Absent
    difference: Estimate | Absent
    times: Estimate | Absent | None
    band: float
    word: Word
    more_prompts: int | None
    none_differs: bool


@dataclass(frozen=True, slots=True)
class Scales:
    """How changes are judged: the band as a share, for how many numbers at once, and whether both drafted the very same tokens."""

    band: float
    tries: int = 1
    same: bool = False


def change(
    number: Number, draws: Bootstrap, sums: Sequence[Sums], scales: Scales, statistics: tuple[Statistic, Statistic] | None = None
) -> Change:
    """A number of two runs' sums over the same units. statistics: how it comes from each, where that is not alike."""
    of_first, of_second = statistics or (number.statistic, number.statistic)
    before, after = draws.estimate(sums[0], of_first), draws.estimate(sums[1], of_second)
    relative = number.scale == "relative"
    difference, times = (
        _settled(draws.compared(sums[1], sums[0], of_second, combine, scales.tries, other=of_first), sums, scales)
        for combine in (np.subtract, ratio)
    )
    both = [abs(one.value) for one in (before, after) if one.value is not None]
    band = scales.band * (sum(both) / len(both) if relative and both else 1.0)
    word, alike = word_of(difference, number.better, band), _none_differs(difference, of_first(sums[0]), of_second(sums[1]))
    more = prompts_to_settle(difference, word, band, none_differs=alike)
    return Change(number, before, after, difference, times if relative else None, band, word, more, alike)


def _none_differs(seen: Estimate | Absent, first: Floats, second: Floats) -> bool:
    """Whether nothing but unseen prompts makes up an interval. first, second: the number of each run on each unit alone, (unit,)."""
    return isinstance(seen, Estimate) and seen.low < seen.value == 0 < seen.high and np.array_equal(first, second, equal_nan=True)


def _settled(seen: Estimate | Absent, sums: Sequence[Sums], scales: Scales) -> Estimate | Absent:
    """The change itself without an interval where both drafted the very same tokens and no prompt differs: it is one drafter."""
    first, second = sums
    if isinstance(seen, Absent) or not scales.same or not all(np.array_equal(first[key], second[key], equal_nan=True) for key in first):
        return seen
    return replace(seen, low=seen.value, high=seen.value)
