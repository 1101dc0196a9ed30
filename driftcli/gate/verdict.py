"""A verdict as rules: each finding and each axis without one, and whether `--fail-on` fails over it.

The rules come to the exit code of the verdict itself, whatever they are: where wiring or drift is undecided, what was found elsewhere fails
nothing, and what is undecided beside a finding below the gate blocks nothing.
"""

from __future__ import annotations

from typing import Literal

from driftcli.codes import BY_NAME
from driftcli.conditions import BASELINE
from driftcli.domain import REWIRED, SEVERITIES, Axis, AxisVerdict, Finding, Severity, Verdict
from driftcli.outcome import FAILED, UNDECIDED, Check, Outcome, Status
from driftcli.report.choices import FailOn
from driftcli.report.evidence import banner, pair_line
from driftcli.report.verdict import SEVERITY_AXES, exit_code
from driftcli.traces.reader import Run

DECIDING: tuple[Axis, ...] = ("wiring", *SEVERITY_AXES)
ENDED: dict[int, Status] = {0: "passed", FAILED: "failed", UNDECIDED: "undecided"}  # by exit code
WORDS: dict[Status, str] = {"passed": "passed", "failed": "failed", "undecided": "cannot tell"}


def outcome_of(command: Literal["diagnose", "report"], run: Run, verdict: Verdict, fail_on: FailOn, *, strict: bool) -> Outcome:
    """What `--fail-on` comes to on a run; its exit code is that of the verdict."""
    checks = verdict_checks(verdict, fail_on, strict=strict)
    said = f"{banner(verdict).lower()}; {verdict.headline}"
    headline = said if fail_on == "none" else f"{WORDS[ENDED[exit_code(verdict, fail_on, strict=strict)]]}: {said}"
    return Outcome(command, pair_line(run), str(run.path), headline, checks)


def verdict_checks(verdict: Verdict, fail_on: FailOn, *, strict: bool) -> list[Check]:
    """The findings, then the axes without one; one rule for the verdict where it is undecided and none of them is."""
    code = exit_code(verdict, fail_on, strict=strict)
    graded = {BY_NAME[finding.code].axis for finding in verdict.findings if finding.severity != "healthy"}
    found = [_finding(finding, code, fail_on) for finding in verdict.findings]
    axes = [axis_check(axis, one, _axis_status(axis, one, code, strict=strict)) for axis, one in verdict.axes.items() if axis not in graded]
    lone = code == UNDECIDED and "undecided" not in {check.status for check in (*found, *axes)}
    return [*([Check("verdict", "undecided", verdict.headline)] if lone else []), *found, *axes]


def _finding(finding: Finding, code: int, fail_on: FailOn) -> Check:
    status: Status = "passed" if finding.severity == "healthy" else ENDED[code] if code and reaches(finding, fail_on) else "warned"
    return finding_check(finding, status)


def finding_check(finding: Finding, status: Status) -> Check:
    """A finding as a rule of its own."""
    reason, number = f"{finding.severity}: {finding.claim}" * (finding.severity != "healthy") or finding.claim, finding.estimate
    return Check(finding_rule(finding), status, reason, finding.code, number, finding.unit, fix=finding.fix)


def finding_rule(finding: Finding) -> str:
    """Its code, and behind it what of the run it is about where that is not all."""
    about = finding.category or (finding.condition if finding.condition not in (BASELINE, REWIRED) else "")
    return f"{finding.code}:{about}" if about else finding.code


def reaches(finding: Finding, fail_on: FailOn) -> bool:
    """Whether it can make the verdict as bad as `fail_on`: of the wiring only what is miswired does, capacity and payoff never do."""
    axis = BY_NAME[finding.code].axis
    return fail_on != "none" and axis in DECIDING and as_bad_as(finding, "miswired" if axis == "wiring" else fail_on)


def as_bad_as(finding: Finding, severity: Severity) -> bool:
    """Whether a finding is of this severity or above."""
    return finding.severity in SEVERITIES and SEVERITIES.index(finding.severity) >= SEVERITIES.index(severity)


def axis_check(axis: Axis, one: AxisVerdict, status: Status) -> Check:
    """An axis without a finding as a rule of its own."""
    return Check(f"axis:{axis}", status, one.reason or f"nothing found on {axis}", fix=one.fix, more_prompts=one.more_prompts)


def _axis_status(axis: Axis, one: AxisVerdict, code: int, *, strict: bool) -> Status:
    """What is undecided counts where the verdict does not pass, and where it does it is a warning."""
    if one.state == "healthy":
        return "passed"
    if axis not in DECIDING or one.state in ("not applicable", "not measured"):
        return "skipped"
    if one.state == "open":
        return "undecided" if strict and code else "skipped"
    return "undecided" if code else "warned"
