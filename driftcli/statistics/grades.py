"""How severe a loss is: one ladder for every loss that is judged, so that a grade means the same on every axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import Literal, TypeVar

import numpy as np

from driftcli.domain import Axis, Estimate, Open, Severity, Skipped
from driftcli.statistics.distributions import log_normal_below
from driftcli.statistics.intervals import NORMAL, student

Standing = Literal["found", "straddles", "open", "sound"]
Name = TypeVar("Name")
ENOUGH = 0.84  # standard deviations that a value may lie above the truth in four of five runs
ALL_AXES = 2.50 / NORMAL  # by how much an interval is wider that holds for four axes at once (Bonferroni)
MOST_TIMES = 10  # times as many prompts as there are beyond which no number is named (calibrated by simulation: it is off by as much)


@dataclass(frozen=True, slots=True)
class Grades:
    """Losses, as shares, from which one counts, is moderate, is severe; a design rule, to be calibrated on the bundled pairs."""

    mild: float = 0.05
    moderate: float = 0.15
    severe: float = 0.35

    def of(self, loss: Estimate) -> Severity:
        """As high as the whole interval supports; for a loss that counts."""
        return self._grade(loss.low)

    def likely(self, loss: Estimate) -> Severity:
        """The grade of the value itself."""
        return self._grade(loss.value)

    def _grade(self, loss: float) -> Severity:
        return "severe" if loss >= self.severe else "moderate" if loss >= self.moderate else "mild"

    def standing(self, losses: Mapping[Name, Estimate]) -> tuple[Standing, Name]:
        """What several losses with intervals for all at once come to, and which of them decides it.

        found: one surely counts. straddles: one is shown, and may or may not count as moderate. open: none is shown, and a moderate one is
        not excluded. sound: it is.
        """
        surest, widest = (max(losses, key=lambda name: getattr(losses[name], end)) for end in ("low", "high"))
        if losses[surest].low > self.mild:
            return "found", surest
        if shown := [name for name, loss in losses.items() if is_shown(loss) and loss.high >= self.moderate]:
            return "straddles", max(shown, key=lambda name: losses[name].high)
        return ("open" if losses[widest].high >= self.moderate else "sound"), widest

    def unsettled(
        self,
        axis: Axis,
        standing: Standing,
        seen: str,
        loss: Estimate,
        *,
        each: str = "",
        limit: float | None = None,
        of: int | None = None,
    ) -> Skipped | Open:
        """What is said of a loss that straddles or is open. seen: what was seen of it. each: per what prompts are counted. limit: below
        which it must be shown to lie, a moderate one unless said. of: how many prompts there are for those that the loss is known of.
        """
        more = more_prompts(loss, self.mild, limit or self.moderate, of or loss.n_prompts)
        tell = would_tell(more, each)
        bound = f"up to {loss.high:.0%} is not excluded" if loss.low <= 0 else f"which may be {loss.low:.0%} or {loss.high:.0%}"
        if standing == "open":
            return Open(axis, f"nothing found, {bound} ({seen}); {tell}", loss.high, more)
        return Skipped(axis, "inconclusive", f"{seen}: {bound}; {tell}", more_prompts=more)


def would_tell(more: int | None, each: str = "") -> str:
    """How many more prompts would tell, in words. each: per what they are counted."""
    return f"about {more} more prompt{'s' * (more != 1)}{each} would tell" if more else "more prompts would hardly tell"


def is_shown(loss: Estimate) -> bool:
    """Whether there surely is some loss, for all axes of a verdict at once: each is another look at the same pair."""
    return loss.value - ALL_AXES * (loss.value - loss.low) > 0


def more_prompts(loss: Estimate, floor: float, limit: float, of: int) -> int | None:
    """About how many more prompts would show in four of five runs either that a loss stays below `limit` or that it lies above `floor`;
    None where none would, or only more than ten times as many as there are.

    of: prompts that were asked for those that the loss is known of. The spread is what the interval shows; towards the limit only what of
    the value lies beyond noise is taken to be there.
    """
    half = loss.high - loss.value
    room = max(limit - max(0.0, loss.value - half / NORMAL), loss.value - floor)
    return None if half <= 0 else more_to_show(half, room, of)


def more_to_show(half: float, room: float, of: int) -> int | None:
    """About how many more prompts than `of` would show in four of five runs that a number lies `room` off a bound, if half its interval is
    `half` wide now; None where only more than ten times as many would.
    """
    times = (half * (1 + ENOUGH / NORMAL) / room) ** 2 if room > 0 else inf
    return _rounded(max(1, ceil((times - 1) * of))) if times <= MOST_TIMES else None


def more_to_exclude(reach: float, limit: float, of: int) -> int | None:
    """About how many more prompts than `of`, if none of them differs either, would exclude what lies beyond `limit`, of an interval that
    reaches so far because of unseen prompts alone: it shrinks with their number. None where only more than ten times as many would.
    """
    times = reach / limit
    return _rounded(max(1, ceil((times - 1) * of))) if times <= MOST_TIMES else None


def _rounded(number: int) -> int:
    """A number to one digit, up from 20 on to the next ten: it is no more exact than that."""
    return number if number < 20 else 10 * ceil(number / 10)


def chosen(loss: Estimate, floor: float, tries: int) -> Estimate:
    """A loss that was reported because it was the surest of several, its size corrected for that: one that just passed is mostly a smaller
    one with luck.

    floor: what its interval had to exclude. The value becomes the mean of the likelihood of what was seen given that it had to be seen,
    over all sizes of a loss; the interval stays. Source: Zhong and Prentice 2008 (Biostatistics 9), the second of their estimates.
    """
    spread = (loss.value - loss.low) / student(loss.n_prompts, tries)
    if spread <= 0:
        return loss
    bar = floor + loss.value - loss.low
    sizes = np.linspace(0, loss.value + 4 * spread, 400)
    passing = np.array([log_normal_below(float(size - bar) / spread) for size in (*sizes, loss.value)])
    weights = np.exp(-(((loss.value - sizes) / spread) ** 2) / 2 - passing[:-1] + passing[-1])
    return replace(loss, value=float(np.clip((sizes * weights).sum() / weights.sum(), loss.low, loss.value)))


def lost(kept: Estimate) -> Estimate:
    """What is missing of a share that is kept."""
    return Estimate(1 - kept.value, 1 - kept.high, 1 - kept.low, kept.n_prompts)


def drafts_lost(loss: Estimate) -> str:
    """A loss of accepted draft tokens in words."""
    return f"{loss:z.0%} of the accepted draft tokens are lost"
