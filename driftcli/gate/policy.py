"""What a policy says of a rule: whether it counts, and whether what it shows is accepted for now.

Of several rules that match the last one decides, as in a .gitignore: begin with what holds in general and end with the exceptions. What the
command line says comes behind the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from fnmatch import fnmatchcase
from typing import get_args

from driftcli.codes import BY_NAME, CODES, CodeAxis
from driftcli.domain import AXES, Axis
from driftcli.gate.limits import Level, Limit, spread
from driftcli.gate.numbers import CATEGORY, LENGTH, taken_apart
from driftcli.outcome import Check
from driftcli.report.choices import FailOn
from driftcli.suggestions import meant
from driftcli.traces.reader import Run

LEVELS: tuple[Level, ...] = get_args(Level)
SELECTING = ("code", "axis", "category", "condition", "length", "rule")


@dataclass(frozen=True, slots=True)
class About:
    """What a rule of an outcome is about, as a policy picks it: a finding, an axis, a limit or a comparison; absent parts match nothing.

    length: tokens that the prompts were filled up to, in digits.
    """

    rule: str
    code: str | None = None
    axis: CodeAxis | None = None
    category: str | None = None
    condition: str | None = None
    length: str | None = None
    note: bool = False


@dataclass(frozen=True, slots=True)
class Selector:
    """Which rules are meant: all that is given must match, by shell patterns but for the axis."""

    code: str | None = None
    axis: Axis | None = None
    category: str | None = None
    condition: str | None = None
    length: str | None = None
    rule: str | None = None

    def matches(self, about: About) -> bool:
        """Whether all that is given fits."""
        return (self.axis is None or self.axis == about.axis) and all(
            pattern is None or (given is not None and (given == pattern or fnmatchcase(given, pattern)))
            for pattern, given in (
                (self.code, about.code),
                (self.category, about.category),
                (self.condition, about.condition),
                (self.length, about.length),
                (self.rule, about.rule),
            )
        )

    def __str__(self) -> str:
        given = ((name, getattr(self, name)) for name in SELECTING)
        return ",".join(f"{name}={value}" for name, value in given if value is not None)

    @property
    def names_it(self) -> bool:
        """Whether it names a single code, and so means its notes too."""
        return self.code in BY_NAME


@dataclass(frozen=True, slots=True)
class Rule:
    """How what it matches counts: `off` not at all, `warn` as a warning, `error` by itself, a finding from the severity of `--fail-on` on,
    whatever its axis and however the others stand. where: who says so.
    """

    selector: Selector
    level: Level
    where: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """What does not fail until the end of a day, and why; where: who says so."""

    selector: Selector
    reason: str
    until: date
    where: str

    @property
    def words(self) -> str:
        """Why and until when."""
        return f"{self.reason} (until {self.until.isoformat()})"


@dataclass(frozen=True, slots=True)
class Policy:
    """All that is asked of a run. fail_on, band: None where nobody said."""

    fail_on: FailOn | None = None
    strict: bool = False
    band: float | None = None
    limits: Sequence[Limit] = ()
    rules: Sequence[Rule] = ()
    accepted: Sequence[Accepted] = ()

    def rule_for(self, about: About) -> Rule | None:
        """The last rule that matches, None where none does; a note is meant only where its code is named, or where it is turned off."""
        return next((rule for rule in reversed(self.rules) if rule.selector.matches(about) and _means(rule, about)), None)

    def of(self, run: Run) -> Policy:
        """What it asks of this very run: limits by pattern one by one, and their levels as the first rules, before those that it lists."""
        limits = spread(run, self.limits)
        levels = [Rule(Selector(rule=one.rule), one.level, one.where) for one in limits if one.level != "error"]
        return replace(self, limits=limits, rules=[*levels, *self.rules])

    def accepts(self, about: About) -> Accepted | None:
        """The acceptance that lasts longest of those that match, None without any."""
        return max((one for one in self.accepted if one.selector.matches(about)), key=lambda one: one.until, default=None)


def about_limit(limit: Limit) -> About:
    """What a limit is about."""
    part, own = taken_apart(limit.number)[2:]
    return About(limit.rule, category=own if part == CATEGORY else None, length=own if part == LENGTH else None)


def why_no_code(pattern: str) -> str:
    """Why a pattern can be of no finding, empty where it can."""
    if any(fnmatchcase(code, pattern) for code in BY_NAME):
        return ""
    return f"matches no code; {meant(pattern, BY_NAME)}`driftcli explain` lists them"


def selecting(select: Sequence[str], ignore: Sequence[str]) -> list[Rule]:
    """What `--select` and `--ignore` say: only these findings and their axes count, and these do not."""
    axes = dict.fromkeys(code.axis for pattern in select for code in CODES if fnmatchcase(code.name, pattern))
    return [
        *(Rule(Selector(axis=axis), "off", "--select") for axis in (AXES if select else ())),
        *(Rule(Selector(rule=f"axis:{axis}"), "error", "--select") for axis in axes),
        *(Rule(Selector(code=pattern), "error", "--select") for pattern in select),
        *(Rule(Selector(code=pattern), "off", "--ignore") for pattern in ignore),
    ]


def _means(rule: Rule, about: About) -> bool:
    return not about.note or rule.level == "off" or rule.selector.names_it


def levelled(check: Check, about: About, policy: Policy, today: date) -> Check:
    """A rule of its own, such as a limit, as the policy has it count."""
    rule = policy.rule_for(about)
    if rule is not None and rule.level == "off":
        seen = f": {check.reason}" if check.code else ""
        return replace(check, status="skipped", reason=f"off by {rule.where}{seen}", more_prompts=None)
    if check.status not in ("failed", "undecided"):
        return check
    accepted = policy.accepts(about)
    if accepted is not None and today <= accepted.until:
        return replace(check, status="warned", accepted=accepted.words)
    if rule is not None and rule.level == "warn":
        return replace(check, status="warned")
    return check if accepted is None else replace(check, reason=f"{check.reason}; {lapsed(accepted)}")


def lapsed(accepted: Accepted) -> str:
    """That an acceptance has ended."""
    return f"accepted until {accepted.until.isoformat()}, which is past ({accepted.reason})"
