"""A check in words, once for every kind of output: what was measured, against which limit, why, and what to do.

All text leaves this module printable, on one line a fact: names, claims and paths come from outside.
"""

from __future__ import annotations

from collections.abc import Sequence

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
LARGE = 999.5  # from which on a number has no decimals


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
        ("measured", measured(check)),
        ("limit", limit(check)),
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
    interval = f"{written(found.value, check.unit)} [{written(found.low, check.unit)}, {written(found.high, check.unit)}]"
    prompts = counted(found.n_prompts, "prompt")
    unit = "" if check.unit.startswith(POINTS) else check.unit.removeprefix(A_SHARE).strip()
    return printable(f"{interval}{f' {unit}' * bool(unit)}, {prompts}")


def limit(check: Check) -> str:
    """What the estimate was held against; empty where nothing is known of it."""
    return "" if check.limit is None else written(check.limit, check.unit)


def needed(check: Check) -> str:
    """How many more prompts would settle an undecided check; empty where that is not known."""
    more = check.more_prompts
    return f"about {counted(more, 'more prompt')} would tell" if more else ""


def written(value: float, unit: str) -> str:
    """A number of three digits, shares in percent and their differences in points."""
    if unit.startswith(POINTS):
        return f"{100 * value:z.1f} pp"
    if unit.startswith(A_SHARE) or unit.endswith(A_SHARE):
        return f"{value:z.1%}"
    return f"{value:z,.0f}" if abs(value) >= LARGE else f"{value:z#.3g}".rstrip(".")


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
