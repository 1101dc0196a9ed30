"""A check in words, once for every kind of output: what was measured, against which limit, why, and what to do.

All text leaves this module printable, on one line a fact: names, claims and paths come from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10

from driftcli.codes import BY_NAME
from driftcli.domain import A_SHARE
from driftcli.outcome import Check, Outcome, Status
from driftcli.printable import counted, printable

STATUS_WORDS: dict[Status, str] = {
    "failed": "failed",
    "undecided": "cannot tell",
    "warned": "warning",
    "passed": "passed",
    "skipped": "skipped",
}
POINTS = "points"  # begins the unit of a difference of shares
CHANGE = "compare:"  # begins the rules on changes between runs


def worst_first(outcome: Outcome) -> list[Check]:
    """The checks, those that ended the gate first; within a status in their own order."""
    order = list(STATUS_WORDS)
    return sorted(outcome.checks, key=lambda check: order.index(check.status))


def of_status(outcome: Outcome, status: Status) -> list[Check]:
    """The checks that went so."""
    return [check for check in outcome.checks if check.status == status]


def facts(check: Check) -> list[tuple[str, str]]:
    """What there is to say of a check, each with its name: rule, why, what was measured, limit, what to do, what would settle it."""
    said = [
        ("rule", check.rule),
        ("why", check.reason),
        ("change" if is_change(check) else "measured", measured(check)),
        ("band" if is_change(check) else "limit", limit(check)),
        ("what to do", check.fix),
        ("to settle it", needed(check)),
        ("accepted", check.accepted),
    ]
    return [(name, printable(text)) for name, text in said if text]


def lines(check: Check) -> list[str]:
    """The same, a line each."""
    return [f"{name}: {text}" for name, text in facts(check)]


def measured(check: Check) -> str:
    """The estimate with its interval, its unit and how many prompts it is of; empty without one."""
    if (found := check.estimate) is None:
        return ""
    sign = "+" if is_change(check) else ""
    digits = decimals(max(abs(found.value), abs(found.low), abs(found.high)))
    value, low, high = (written(one, check.unit, digits, sign) for one in (found.value, found.low, found.high))
    interval = f"{value} [{low}, {high}]"
    prompts = counted(found.n_prompts, "prompt")
    unit = "" if check.unit.startswith(POINTS) else check.unit.removeprefix(A_SHARE).strip()
    return printable(f"{interval}{f' {unit}' * bool(unit)}, {prompts}")


def limit(check: Check) -> str:
    """What the estimate was held against, of a change the band to either side of none; empty where nothing is known of it."""
    return "" if check.limit is None else f"{'±' * is_change(check)}{written(check.limit, check.unit, decimals(check.limit))}"


def is_change(check: Check) -> bool:
    """Whether a check is on how a number changed, not on the number."""
    return check.rule.startswith(CHANGE)


def needed(check: Check) -> str:
    """How many more prompts would settle an undecided check; empty where that is not known."""
    more = check.more_prompts
    return f"about {counted(more, 'more prompt')} would tell" if more else ""


def decimals(largest: float) -> int:
    """Digits behind the point that give a number, and smaller ones beside it, three digits in all."""
    return 2 if not largest else max(0, 2 - floor(log10(abs(largest)) + 1e-4))


def written(value: float, unit: str, digits: int, sign: str = "") -> str:
    """A number with so many digits behind the point; shares in percent and their differences in points, with one. sign: `+` shows it."""
    if unit.startswith(POINTS):
        return f"{100 * value:{sign}z.1f} pp"
    if unit.startswith(A_SHARE) or unit.endswith(A_SHARE):
        return f"{value:{sign}z.1%}"
    return f"{value:{sign}z,.{digits}f}"


def meaning(check: Check) -> str:
    """What a rule asks, in a sentence."""
    if check.code in BY_NAME:
        return BY_NAME[check.code].meaning
    kind, _, about = check.rule.partition(":")
    name = printable(about or kind)
    asked = {"axis": f"Whether the pair is sound on {name}.", "min": f"Whether {name} is at least the limit."}
    return {**asked, "max": f"Whether {name} is at most the limit."}.get(kind, f"Whether {name} holds.")


def remedies(check: Check) -> Sequence[str]:
    """What mends what a rule is about: what was said for this run, then what is known of the finding's code."""
    known = BY_NAME[check.code].remedies if check.code in BY_NAME else ()
    return list(dict.fromkeys([*([printable(check.fix)] if check.fix else []), *known]))
