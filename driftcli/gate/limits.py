"""A limit on a number of the report: judged by the interval, never by the value alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from driftcli.domain import Absent, Estimate
from driftcli.gate.numbers import CATEGORY, each, taken_apart, value_of, why_not_applicable
from driftcli.outcome import Check
from driftcli.statistics.grades import more_to_show
from driftcli.statistics.walks import MINIMAL_PROMPTS
from driftcli.traces.reader import Run

Side = Literal["min", "max"]
Level = Literal["off", "warn", "error"]


@dataclass(frozen=True, slots=True)
class Limit:
    """The least or the most that a number may be; where: who set it, for errors; level: how it counts, unless a rule says otherwise."""

    side: Side
    number: str
    value: float
    where: str
    level: Level = "error"

    @property
    def rule(self) -> str:
        """Its id."""
        return f"{self.side}:{self.number}"

    @property
    def prompts(self) -> str:
        """What more of would tell."""
        return "prompts of this category" if taken_apart(self.number).part == CATEGORY else "prompts"


def spread(run: Run, limits: Sequence[Limit]) -> list[Limit]:
    """Limits by pattern as one for each part of the run that fits; of several on the very same number the last decides."""
    found = {one.rule: one for limit in limits for one in (replace(limit, number=name) for name in each(run, limit.number))}
    return list(found.values())


def limit_check(run: Run, limit: Limit, fix: str) -> Check:
    """How a run stands to a limit on a number that it has: passed or failed where the whole interval is on one side of it. fix: what to do
    where it is not passed.
    """
    if reason := why_not_applicable(run, limit.number):
        return Check(limit.rule, "skipped", f"{limit.number}: not applicable, {reason}", limit=limit.value)
    number, unit = value_of(run, limit.number)
    return _judged(limit, number, unit, fix) if isinstance(number, Estimate) else _untold(limit, number)


def _judged(limit: Limit, number: Estimate, unit: str, fix: str) -> Check:
    seen, asked = _seen(limit, number), f"at {'least' if limit.side == 'min' else 'most'} {limit.value:g}"
    right, wrong = number.low >= limit.value, number.high < limit.value
    if limit.side == "max":
        right, wrong = number.high <= limit.value, number.low > limit.value
    if right:
        return Check(limit.rule, "passed", f"{seen}, {asked} was asked for", None, number, unit, limit.value)
    if wrong:
        return Check(limit.rule, "failed", f"{seen}, expected {asked}", None, number, unit, limit.value, fix)
    more = more_to_settle(number, limit.value)
    tell = f"about {more} more {limit.prompts} would tell" if more else f"more {limit.prompts} would hardly tell"
    reason = f"{seen} lies on either side of {limit.value:g}; {tell}"
    return Check(limit.rule, "undecided", reason, None, number, unit, limit.value, more_prompts=more)


def _seen(limit: Limit, number: Estimate) -> str:
    return f"{limit.number} {_plain(number.value)} [{_plain(number.low)}, {_plain(number.high)}]"


def _untold(limit: Limit, number: Absent) -> Check:
    seen = "cannot be told" if number.value is None else f"{_plain(number.value)}, but without an interval"
    more = None if number.n_prompts is None else too_few_by(number.n_prompts)
    needed = f"; at least {more} more {limit.prompts} are needed" if more else ""
    reason = f"{limit.number} {seen}: {number.reason}{needed}"
    return Check(limit.rule, "undecided", reason, limit=limit.value, more_prompts=more)


def too_few_by(n_prompts: int) -> int | None:
    """How many prompts are missing for any interval; None where there are enough, and where there is none: then replies are too short."""
    return MINIMAL_PROMPTS - n_prompts if 0 < n_prompts < MINIMAL_PROMPTS else None


def more_to_settle(number: Estimate, limit: float) -> int | None:
    """About how many more prompts would show in four of five runs on which side of a limit a number lies, if it is what it seems; None
    where only more than ten times as many as there are would.
    """
    half = number.value - number.low if number.value > limit else number.high - number.value
    return more_to_show(half, abs(number.value - limit), number.n_prompts)


def _plain(value: float) -> str:
    """A number with two digits behind the point, or two that say something where it is small; no sign before a zero."""
    return f"{value:z.2f}" if abs(value) >= 0.1 or not value else f"{value:.2g}"
