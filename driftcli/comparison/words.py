"""The five words for a change, by which everything that is compared is told, and how many more prompts would settle one that is not.

A change is a number of the second run minus that of the first on the same prompts, with its 95% interval. The band holds changes that do
not matter, 2% unless asked otherwise; it lies alike on both sides of 0, so that runs in the other order get the mirrored word.

- equal: the whole interval lies inside the band, whether or not it holds 0.
- improved, regressed: it reaches out of the band and does not hold 0, on the side that is better or worse for this number.
- no difference seen: it holds 0 and reaches out of the band, but by so little that a loss of the size from which one counts elsewhere in a
  report is excluded: at most `WIDE` bands on either side.
- cannot tell: it holds 0 and reaches further, or there are too few prompts for an interval.
"""

from __future__ import annotations

from typing import Literal

from driftcli.domain import Absent, Estimate
from driftcli.statistics.grades import Grades, more_prompts, more_to_exclude
from driftcli.statistics.intervals import mirrored
from driftcli.statistics.walks import MINIMAL_PROMPTS

Better = Literal["higher", "lower"]
Word = Literal["improved", "regressed", "equal", "no difference seen", "cannot tell"]
WORDS: tuple[Word, ...] = ("improved", "regressed", "equal", "no difference seen", "cannot tell")
BAND = 0.02  # of the number itself, or in points of a share; chosen by us: what a gain must reach to be worth a change of settings
WIDE = Grades().mild / BAND  # bands that an interval may reach while a loss that counts, 5%, is excluded


def why_no_band(band: float) -> str:
    """Why a share is no band, empty where it is one."""
    return "" if 0 < band < 1 else f"{band:g} is no band, expected a share between 0 and 1; 0.02 stands for 2%"


def word_of(change: Estimate | Absent, better: Better, band: float) -> Word:
    """What a change is called. band: half its width, in the unit of the change."""
    if isinstance(change, Absent):
        return "cannot tell"
    if -band <= change.low and change.high <= band:
        return "equal"
    if change.low > 0 or change.high < 0:
        return "improved" if (change.low > 0) == (better == "higher") else "regressed"
    return "no difference seen" if max(-change.low, change.high) <= WIDE * band else "cannot tell"


def prompts_to_settle(change: Estimate | Absent, word: Word, band: float, *, none_differs: bool = False) -> int | None:
    """About how many more prompts would settle a change: what cannot be told would then be shown or known to be small, and no difference
    would be equal or shown. None where it is settled, or no number that could be named would do; too few prompts need at least so many.

    none_differs: no prompt differs so far, and no further one is expected to.
    """
    if isinstance(change, Absent):
        return None if change.n_prompts is None else max(1, MINIMAL_PROMPTS - change.n_prompts)
    if word not in ("no difference seen", "cannot tell"):
        return None
    limit = band if word == "no difference seen" else WIDE * band
    if none_differs:
        return more_to_exclude(max(-change.low, change.high), limit, change.n_prompts)
    upwards = change if change.value >= 0 else mirrored(change)
    return more_prompts(upwards, 0.0, limit, change.n_prompts)
