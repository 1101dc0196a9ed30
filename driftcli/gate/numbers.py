"""The numbers of a report that a limit can be set on, one row each; a name that is none is answered with the one that was meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from driftcli.conditions import Plan
from driftcli.domain import Absent, Estimate
from driftcli.printable import few
from driftcli.report.evidence import sampled_length
from driftcli.statistics import curves
from driftcli.statistics.intervals import Statistic
from driftcli.statistics.payoff import deciding, speed
from driftcli.statistics.walks import EXACT_TEXT
from driftcli.suggestions import meant
from driftcli.traces.manifest import DEEPEST
from driftcli.traces.reader import Run

CONDITION = "condition:"  # before the name of a condition: the draft tokens that it keeps of the baseline's
SHARE, TOKENS = "share", "tokens a round"


@dataclass(frozen=True, slots=True)
class Number:
    """A number of a run. of: it at every depth, or the only one; of_state: it takes a drafter that feeds on its own state."""

    name: str
    unit: str
    of: Callable[[Run], Sequence[Estimate | Absent]]
    by_depth: bool = False
    of_state: bool = False


def _only(statistic: Statistic) -> Callable[[Run], Sequence[Estimate | Absent]]:
    return lambda run: [run.estimate(statistic)]


def _every(statistic: Statistic) -> Callable[[Run], Sequence[Estimate | Absent]]:
    return lambda run: run.by_depth(statistic)


def _acceptance_length(run: Run) -> Sequence[Estimate | Absent]:
    if run.argmax_share < EXACT_TEXT:
        return [Absent("the given replies are not the target's own; see text-match-length")]
    return [run.estimate(curves.walk_acceptance_length)]


def _speed(run: Run) -> Sequence[Estimate | Absent]:
    costs = deciding(run)
    plan = Plan(run.reference, run.spec.depth)
    return [run.planned(speed(costs), plan) if costs else Absent("no step times are known, or they cannot be true")]


NUMBERS: tuple[Number, ...] = (
    Number("acceptance-length", TOKENS, _acceptance_length),
    Number("emitted-per-round", TOKENS, lambda run: [run.emitted_per_round]),
    Number("sampled-length", TOKENS, lambda run: [sampled_length(run, run.reference)]),
    Number("text-match-length", TOKENS, _only(curves.walk_acceptance_length)),
    Number("speed", "times plain decoding", _speed),
    Number("handoff", SHARE, _only(curves.handoff), of_state=True),
    Number("tax", SHARE, lambda run: [curves.estimate_tax(run)], of_state=True),
    Number("accuracy", SHARE, _every(curves.forced_accuracy), by_depth=True),
    Number("fresh-accuracy", SHARE, _every(curves.fresh_accuracy), by_depth=True),
    Number("joint", SHARE, _every(curves.joint), by_depth=True),
    Number("joint-walk", SHARE, _every(curves.joint_walk), by_depth=True),
    Number("compounding", SHARE, _every(curves.compounding), by_depth=True, of_state=True),
    Number("rms-ratio", "times", _every(curves.rms_ratio), by_depth=True, of_state=True),
    Number("state-cosine", "", _every(curves.state_cosine), by_depth=True, of_state=True),
    Number("attention-drift", SHARE, _every(curves.attention_drift), by_depth=True, of_state=True),
    Number("prompt-side-change", SHARE, _every(curves.prompt_side_change), by_depth=True, of_state=True),
)
BY_NAME = {number.name: number for number in NUMBERS}


def why_unknown(name: str) -> str:
    """Why no run has a number of this name, empty where one may."""
    if name.startswith(CONDITION):
        return ""
    plain, at, depth = name.partition("@")
    number = BY_NAME.get(plain)
    if number is None:
        return f"no such number; {meant(plain, BY_NAME)}expected one of {', '.join(map(_offered, NUMBERS))}, {CONDITION}NAME"
    if at and not number.by_depth:
        return f"{plain} is one number for all depths, expected no @"
    if at and not (depth.isascii() and depth.isdecimal() and 1 <= int(depth) <= DEEPEST):
        return f"{depth!r} is no depth, expected a whole number from 1, as {plain}@3"
    return ""


def why_not_in(run: Run, name: str) -> str:
    """Why this run has no such number though others may, empty where it has; for a name that is known."""
    if name.startswith(CONDITION):
        asked, known = name.removeprefix(CONDITION), sorted({one for _, one in run.conditions} | run.failed.keys())
        if asked in known:
            return ""
        return f"this run measured no such condition; {meant(asked, known)}expected one of {few(known, 12) or 'none'}"
    depth = _depth(run, name)
    return f"this run drafted {run.spec.depth} tokens a chain, expected a depth up to that" if depth > run.spec.depth else ""


def value_of(run: Run, name: str) -> tuple[Estimate | Absent, str]:
    """The number of that name, which the run has, and its unit; absent with the reason where this run cannot tell it."""
    if name.startswith(CONDITION):
        return run.ratio_to_baseline(curves.accepted_drafts, name.removeprefix(CONDITION)), "of the baseline's accepted draft tokens"
    number = BY_NAME[name.partition("@")[0]]
    return number.of(run)[_depth(run, name) - 1 if number.by_depth else 0], number.unit


def why_not_applicable(run: Run, name: str) -> str:
    """Why the number means nothing for such a drafter, empty where it does."""
    number = BY_NAME.get(name.partition("@")[0])
    return run.pair.no_recursion or "" if number is not None and number.of_state else ""


def _depth(run: Run, name: str) -> int:
    """The depth behind the @, the run's own without."""
    depth = name.partition("@")[2]
    return int(depth) if depth else run.spec.depth


def _offered(number: Number) -> str:
    return f"{number.name}@d" if number.by_depth else number.name
