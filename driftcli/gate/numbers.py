"""The numbers of a report that a limit can be set on, one row each; a name that is none is answered with the one that was meant.

A name is `acceptance-length`, `joint@3` at a depth, or `condition:no-bos`. Behind it may stand on which part of the run, by a pattern with
`*` and `?`: `joint@3[category=code-*]`, on the prompts of such a category alone, or `acceptance-length[length=2048]`, on the prompts that
were filled up to so many tokens of context.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from driftcli.conditions import Plan
from driftcli.domain import Absent, Estimate
from driftcli.printable import counted, few
from driftcli.report.evidence import sampled_length
from driftcli.statistics import curves, survival
from driftcli.statistics.intervals import Statistic
from driftcli.statistics.payoff import deciding, speed
from driftcli.statistics.walks import EXACT_TEXT
from driftcli.suggestions import meant
from driftcli.traces.manifest import DEEPEST
from driftcli.traces.reader import Run

CONDITION = "condition:"  # before the name of a condition: the draft tokens that it keeps of the baseline's
SHARE, TOKENS = "share", "tokens a round"
CATEGORY, LENGTH = "category", "length"
PARTS = (CATEGORY, LENGTH)


class Name(NamedTuple):
    """A name taken apart; part and pattern are empty where it is on the whole run."""

    number: str
    depth: str
    part: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Number:
    """A number of a run. of: it at every depth, or the only one; of_state: it takes a drafter that feeds on its own state; at_lengths: it
    is measured on prompts of other lengths too, where no controls are; of_blocks: it takes a drafter that guesses side by side;
    of_attention: one whose attention along a chain is held against its control's.
    """

    name: str
    unit: str
    of: Callable[[Run], Sequence[Estimate | Absent]]
    by_depth: bool = False
    of_state: bool = False
    at_lengths: bool = False
    of_blocks: bool = False
    of_attention: bool = False


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


def _chains(statistic: Statistic) -> Callable[[Run], Sequence[Estimate | Absent]]:
    """Of what the draft tokens' own probabilities promise of a chain."""

    def told(run: Run) -> Sequence[Estimate | Absent]:
        chains = run.survival["draft_prob"]
        return [chains] * run.spec.depth if isinstance(chains, Absent) else chains.by_depth(statistic)

    return told


NUMBERS: tuple[Number, ...] = (
    Number("acceptance-length", TOKENS, _acceptance_length, at_lengths=True),
    Number("emitted-per-round", TOKENS, lambda run: [run.emitted_per_round], at_lengths=True),
    Number("sampled-length", TOKENS, lambda run: [sampled_length(run, run.reference)], at_lengths=True),
    Number("text-match-length", TOKENS, _only(curves.walk_acceptance_length), at_lengths=True),
    Number("speed", "times plain decoding", _speed),
    Number("handoff", SHARE, _only(curves.handoff), of_state=True),
    Number("tax", SHARE, lambda run: [curves.estimate_tax(run)], of_state=True),
    Number("accuracy", SHARE, _every(curves.forced_accuracy), by_depth=True, at_lengths=True),
    Number("fresh-accuracy", SHARE, _every(curves.fresh_accuracy), by_depth=True),
    Number("joint", SHARE, _every(curves.joint), by_depth=True, at_lengths=True),
    Number("joint-walk", SHARE, _every(curves.joint_walk), by_depth=True, at_lengths=True),
    Number("compounding", SHARE, _every(curves.compounding), by_depth=True, of_state=True),
    Number("block-independence", SHARE, _every(curves.block_independence), by_depth=True, of_blocks=True),
    Number("rms-ratio", "times", _every(curves.rms_ratio), by_depth=True, of_state=True),
    Number("state-cosine", "", _every(curves.state_cosine), by_depth=True, of_state=True),
    Number("attention-drift", SHARE, _every(curves.attention_drift), by_depth=True, of_state=True, of_attention=True),
    Number("survival-error", SHARE, _chains(survival.calibration_error), by_depth=True),
    Number("survival-brier", "", _chains(survival.brier), by_depth=True),
    Number("survival-auroc", "", _chains(survival.auroc), by_depth=True),
    Number("prompt-side-change", SHARE, _every(curves.prompt_side_change), by_depth=True, of_state=True),
)
BY_NAME = {number.name: number for number in NUMBERS}


def taken_apart(name: str) -> Name:
    """A name's parts, whether or not any number has it; what stands in brackets and names no part is left as the pattern."""
    plain, bracket, rest = name.partition("[")
    number, at, depth = plain.partition("@")
    part, equals, pattern = rest.removesuffix("]").partition("=")
    if bracket and not (rest.endswith("]") and equals and pattern and part in PARTS):
        return Name(number, at + depth, "", bracket + rest)
    return Name(number, at + depth, part, pattern)


def why_unknown(name: str) -> str:
    """Why no run has a number of this name, empty where one may."""
    plain, at, part, pattern = taken_apart(name)
    known = BY_NAME.get(plain)
    if known is None and not plain.startswith(CONDITION):
        offered = ", ".join(map(_offered, NUMBERS))
        return f"{plain or 'nothing'} is no such number; {meant(plain, BY_NAME)}expected one of {offered}, {CONDITION}NAME"
    if at and (known is None or not known.by_depth):
        return f"{plain} is one number for all depths, expected no @"
    if at and not ((depth := at[1:]).isascii() and depth.isdecimal() and 1 <= int(depth) <= DEEPEST):
        return f"{depth!r} is no depth, expected a whole number from 1, as {plain}@3"
    if pattern and not part:
        parts = " or ".join(f"[{one}=PATTERN]" for one in PARTS)
        return f"{pattern} names no part of a run, expected {parts} at the end, as {plain}{at}[{CATEGORY}=code-*]"
    if part == LENGTH and not (known and known.at_lengths):
        there = ", ".join(_offered(one) for one in NUMBERS if one.at_lengths)
        return f"{plain} is measured on the run's own prompts alone, expected one of {there} with [{LENGTH}={pattern}]"
    return ""


def why_not_in(run: Run, name: str) -> str:
    """Why this run has no such number though others may, empty where it has; for a name that is known."""
    plain, _, part, pattern = taken_apart(name)
    if part and not _matching(run, part, pattern):
        return _why_no_part(run, part, pattern)
    if plain.startswith(CONDITION):
        asked, known = plain.removeprefix(CONDITION), sorted({one for _, one in run.conditions} | run.failed.keys())
        if asked in known:
            return ""
        return f"this run measured no such condition; {meant(asked, known)}expected one of {few(known, 12) or 'none'}"
    depth = _depth(run, name)
    return f"this run drafted {run.spec.depth} tokens a chain, expected a depth up to that" if depth > run.spec.depth else ""


def each(run: Run, name: str) -> list[str]:
    """The names that a pattern stands for in this run, one for each category or length that fits; a name without one stands for itself."""
    part, pattern = taken_apart(name)[2:]
    return [f"{name.partition('[')[0]}[{part}={one}]" for one in _matching(run, part, pattern)] if part else [name]


def value_of(run: Run, name: str) -> tuple[Estimate | Absent, str]:
    """The number of that name, which the run has, and its unit; absent with the reason where this run cannot tell it. A part of the run
    goes by its very name here, which is no pattern.
    """
    plain, _, part, own = taken_apart(name)
    if part:
        run = run.of_category(own) if part == CATEGORY else run.at_context_length(int(own))
    if plain.startswith(CONDITION):
        return run.ratio_to_baseline(curves.accepted_drafts, plain.removeprefix(CONDITION)), "of the baseline's accepted draft tokens"
    number = BY_NAME[plain]
    return number.of(run)[_depth(run, name) - 1 if number.by_depth else 0], number.unit


def why_not_applicable(run: Run, name: str) -> str:
    """Why the number means nothing for such a drafter, empty where it does."""
    number, pair = BY_NAME.get(taken_apart(name).number), run.pair
    if number is None:
        return ""
    if number.of_blocks and not pair.guesses_side_by_side:
        return curves.IN_TURN
    return (number.of_state and pair.no_recursion) or (number.of_attention and pair.no_attention) or ""


def _depth(run: Run, name: str) -> int:
    """The depth behind the @, the run's own without."""
    depth = taken_apart(name).depth
    return int(depth[1:]) if depth else run.spec.depth


def _matching(run: Run, part: str, pattern: str) -> list[str]:
    """The categories or lengths of a run that a pattern fits."""
    known = list(run.categories) if part == CATEGORY else [str(length) for length in run.context_lengths]
    return [one for one in known if one == pattern or fnmatchcase(one, pattern)]


def _why_no_part(run: Run, part: str, pattern: str) -> str:
    if part == CATEGORY:
        if not run.categories:
            return "no prompt of this run has a category"
        known = [f"{name} ({counted(prompts, 'prompt')})" for name, prompts in run.categories.items()]
        return f"this run has no category that fits {pattern!r}; {meant(pattern, run.categories)}expected one of {few(known, 12)}"
    if not run.context_lengths:
        return "this run has no prompts of other lengths, which the context-length probe measures"
    return f"this run has no context length that fits {pattern!r}, expected one of {few(list(run.context_lengths), 12)}"


def _offered(number: Number) -> str:
    return f"{number.name}@d" if number.by_depth else number.name
