"""Rows -> findings -> verdict: the one judgement from which everything that is printed, and the exit code, follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from driftcli.codes import BY_NAME
from driftcli.curves import compounding
from driftcli.domain import (
    AXES,
    BASELINE,
    SEVERITIES,
    Axis,
    AxisState,
    AxisVerdict,
    Estimate,
    Finding,
    Said,
    Severity,
    Skipped,
    Sound,
    Verdict,
    Withheld,
)
from driftcli.errors import ProbeError
from driftcli.probe import Probe, Trace
from driftcli.report.choices import FailOn

SEVERITY_AXES: tuple[Axis, ...] = ("drift", "template", "context", "domain")  # wiring overrides them; capacity and payoff never raise it
EXIT_FAILED, EXIT_INCONCLUSIVE = 4, 5


def judge(trace: Trace, battery: Sequence[Probe]) -> Verdict:
    """What the battery says of a run; raises ProbeError for a finding with a code that does not exist."""
    said = [item for probe in battery for item in probe.judge(trace)]
    unknown = next((item.code for item in said if isinstance(item, Finding) and item.code not in BY_NAME), None)
    if unknown:
        raise ProbeError(f"a probe reported the code {unknown!r}, expected one of {', '.join(BY_NAME)}")
    withheld = {item.axis: item.reason for item in said if isinstance(item, Withheld)}
    findings = [_placed(item, trace) for item in said if isinstance(item, Finding) and BY_NAME[item.code].axis not in withheld]
    covered = {axis for probe in battery for axis in probe.axes}
    axes = {axis: _axis(axis, findings, said, covered=axis in covered) for axis in AXES}
    severity = _severity(axes)
    return Verdict(severity, _headline(severity, axes, trace), axes, sorted(findings, key=lambda finding: -_rank(finding)))


def _placed(finding: Finding, trace: Trace) -> Finding:
    """A finding on the baseline, but for one of the wiring, is one on what stands for it in this run."""
    own = finding.condition != BASELINE or BY_NAME[finding.code].axis == "wiring"
    return finding if own else replace(finding, condition=trace.reference)


def _rank(finding: Finding) -> int:
    return SEVERITIES.index(finding.severity) if finding.severity in SEVERITIES else 0


def _axis(axis: Axis, findings: Sequence[Finding], said: Sequence[Said], *, covered: bool) -> AxisVerdict:
    """Why it cannot be judged, else the worst finding, else what kept a probe from judging (undecided before undecidable, whatever the
    probes' order), else healthy, with what says so.
    """
    own = [item for item in said if not isinstance(item, Finding) and item.axis == axis]
    if withheld := next((item for item in own if isinstance(item, Withheld)), None):
        return AxisVerdict("inconclusive", withheld.reason)
    found = [finding for finding in findings if BY_NAME[finding.code].axis == axis and finding.severity != "healthy"]
    if found:
        worst = max(found, key=_rank)
        return AxisVerdict(worst.severity, worst.claim)
    skipped = sorted((item for item in own if isinstance(item, Skipped)), key=lambda skip: skip.state != "inconclusive")
    if skipped:
        return AxisVerdict(skipped[0].state, skipped[0].reason)
    sound = next((item.reason for item in own if isinstance(item, Sound)), "")
    return AxisVerdict("healthy", sound) if covered else AxisVerdict("not measured", "no probe of this run asks it")


def _severity(axes: Mapping[Axis, AxisVerdict]) -> Severity:
    if axes["wiring"].state == "miswired":
        return "miswired"
    states: list[AxisState] = [axes[axis].state for axis in SEVERITY_AXES]
    found = [state for state in SEVERITIES if state in states]
    if found and found[-1] != "healthy":
        return found[-1]
    return "healthy" if found and "inconclusive" not in states else "inconclusive"


def _headline(severity: Severity, axes: Mapping[Axis, AxisVerdict], trace: Trace) -> str:
    """The verdict in one sentence, its cost first, in the words of the axis that decided it."""
    if severity == "miswired":
        return axes["wiring"].reason
    deciding: Axis = next((axis for axis in SEVERITY_AXES if axes[axis].state == severity), "drift")
    own = axes[deciding]
    if severity == "inconclusive":
        return f"{deciding} is {own.state}: {own.reason}"
    damage = trace.by_depth(compounding)[-1]
    if deciding != "drift" or not isinstance(damage, Estimate):
        return f"no loss found on the {deciding} axis" if severity == "healthy" else f"{deciding}: {own.reason}"
    fall = f"{damage.value:z.0%} [{damage.low:z.0%}, {damage.high:z.0%}] from depth 2 to {trace.spec.depth}"
    if severity == "healthy":
        return f"no drift found: right guesses fall by a further {fall}, below what counts"
    return f"right guesses fall by a further {fall} because the head feeds on its own state"


def exit_code(verdict: Verdict, fail_on: FailOn) -> int:
    """0, 4 at or above `fail_on`, 5 when inconclusive under a `fail_on`."""
    if fail_on == "none":
        return 0
    if verdict.severity == "inconclusive":
        return EXIT_INCONCLUSIVE
    return EXIT_FAILED if SEVERITIES.index(verdict.severity) >= SEVERITIES.index(fail_on) else 0
