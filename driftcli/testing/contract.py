"""What a probe and a mitigation promise, checked on one run; ProbeError says who breaks it, by what, and what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import fields
from math import isfinite
from typing import TypeVar, get_args

from driftcli.codes import BY_NAME
from driftcli.conditions import BASELINE, Condition, DraftSettings
from driftcli.domain import REWIRED, Finding, Open, RunSpec, Said, Severity, Skipped, Sound, Withheld
from driftcli.errors import ProbeError
from driftcli.mitigations.mitigation import Kind, Mitigation, Trial
from driftcli.mitigations.serving import ENGINES
from driftcli.probe import Probe, Trace, lacking
from driftcli.traces.layout import CONDITION

GRADES: tuple[Severity, ...] = ("mild", "moderate", "severe", "miswired", "healthy")  # of a finding; healthy marks a note
SAID = (Finding, Skipped, Sound, Open, Withheld)
CHANGES = {field.name for field in fields(DraftSettings)}
T = TypeVar("T")


def checked_probe(probe: Probe) -> None:
    """ProbeError for what is no probe."""
    _expect(not (wrong := lacking(probe)), getattr(probe, "name", type(probe).__name__), wrong)


def checked_conditions(name: str, asked: Callable[[], Sequence[Condition]], spec: RunSpec, *, owner: str | None) -> list[Condition]:
    """What is asked for, twice; every name is once there and fit for a file. owner: whose `probe` conditions are of, any for None."""
    found = _twice(name, "conditions", lambda: list(asked()))
    names = [one.name for one in found]
    for one in found:
        _expect(names.count(one.name) == 1, name, f"asks for the condition {one.name!r} twice, expected distinct names")
        _expect(re.fullmatch(CONDITION, one.name), name, f"asks for {one.name!r}, expected a name of letters, digits and . _ + - only")
        _expect(one.name not in (BASELINE, REWIRED), name, f"asks for {one.name!r}, which every run has; name it otherwise")
        _expect(
            owner in (None, one.probe),
            name,
            f"asks for {one.name!r} as the probe {one.probe!r}, expected {owner!r}",
        )
        deep = one.deeper or one.settings.depth <= spec.depth
        _expect(deep, name, f"asks for {one.name!r} at depth {one.settings.depth}, expected spec.depth ({spec.depth}) or deeper=True")
    return found


def checked_facts(name: str, given: Collection[str], asked: Iterable[Condition]) -> None:
    """A fact about a condition that nobody asks for is a slip of the pen: whoever waits for it waits in vain."""
    known = {one.name for one in asked}
    stray = next((one for one in given if one not in known), None)
    _expect(stray is None, name, f"facts are given of the condition {stray!r}, which it does not ask for; it asks for {_listed(known)}")


def checked_said(probe: Probe, trace: Trace) -> list[Said]:
    """What a probe says of a run, twice; it clears only its own axes, and finds in codes that exist, with numbers that are some."""
    said = _twice(probe.name, "judge", lambda: list(probe.judge(trace)))
    for one in said:
        _expect(isinstance(one, SAID), probe.name, f"said {one!r}, expected Finding, Skipped, Sound, Open or Withheld")
        if isinstance(one, Finding):
            _check_finding(probe, one, trace)
        elif isinstance(one, Sound | Open):
            clears = f"says that {one.axis} is {type(one).__name__.lower()}"
            _expect(one.axis in probe.axes, probe.name, f"{clears}, expected it of its own axes alone: {_listed(probe.axes)}")
    return said


def _check_finding(probe: Probe, one: Finding, trace: Trace) -> None:
    number = one.estimate
    _expect(one.code in BY_NAME, probe.name, f"found {one.code!r}, expected a code of driftcli.codes: {_listed(BY_NAME)}")
    _expect(one.severity in GRADES, probe.name, f"graded {one.code} {one.severity!r}, expected one of {_listed(GRADES)}")
    sound = all(map(isfinite, (number.value, number.low, number.high))) and number.low <= number.value <= number.high
    _expect(sound, probe.name, f"found {one.code} at {number}, expected low <= value <= high")
    _expect(bool(one.claim and one.unit and one.fix), probe.name, f"found {one.code} without a claim, a unit or what to do")
    known = {trace.reference, REWIRED, *trace.measured}
    _expect(one.condition in known, probe.name, f"found {one.code} under {one.condition!r}, which was not measured")


def checked_trials(mitigation: Mitigation, trace: Trace) -> list[Trial]:
    """What a mitigation tries of a run, twice; only of what was measured, in words and settings that others can read."""
    name = mitigation.name
    _expect(mitigation.kind in get_args(Kind), name, f"is {mitigation.kind!r}, expected one of {_listed(get_args(Kind))}")
    trials = _twice(name, "trials", lambda: list(mitigation.trials(trace)))
    names = [one.name for one in trials]
    _expect(len(set(names)) == len(names), name, f"tries one of {_listed(names)} twice, expected distinct names")
    for option in (option for trial in trials for option in trial.options):
        for plan in (option.plan, option.over):
            _expect(plan.condition in {trace.reference, *trace.measured}, name, f"plans by {plan.condition!r}, which was not measured")
            _expect(1 <= plan.drafts <= trace.spec.depth, name, f"plans {plan.drafts} drafts, expected 1 to {trace.spec.depth}")
        strange = {*option.settings} - {*ENGINES} or {*option.changes} - CHANGES
        _expect(not strange, name, f"names {_listed(strange)}, expected engines ({_listed(ENGINES)}) and fields of DraftSettings")
    _expect(all(trial.options for trial in trials), name, "tries nothing, expected options in every trial")
    return trials


def _twice(name: str, what: str, asked: Callable[[], T]) -> T:
    """An answer, which is the same when the question is asked again."""
    first = asked()
    _expect(first == asked(), name, f"gives something else when {what} is called again, expected no state, clock or randomness of its own")
    return first


def _listed(names: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, names))) or "none"


def _expect(true: object, name: str, otherwise: str) -> None:
    if not true:
        raise ProbeError(f"{name}: {otherwise}")
