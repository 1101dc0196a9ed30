"""Rows -> findings -> verdict: the one judgement from which everything that is printed, and the exit code, follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from driftcli.codes import BY_NAME
from driftcli.curves import compounding
from driftcli.domain import AXES, SEVERITIES, Axis, AxisState, AxisVerdict, Estimate, Finding, Severity, Skipped, Verdict
from driftcli.errors import ProbeError
from driftcli.probe import Probe, Trace
from driftcli.report.choices import FailOn

SEVERITY_AXES: tuple[Axis, ...] = ("drift", "template", "context", "domain")  # wiring overrides them; capacity and payoff never raise it
EXIT_FAILED, EXIT_INCONCLUSIVE = 4, 5


def judge(trace: Trace, battery: Sequence[Probe]) -> Verdict:
    """What the battery says of a run; raises ProbeError for a finding with a code that does not exist."""
    said = [item for probe in battery for item in probe.judge(trace)]
    findings = [item for item in said if isinstance(item, Finding)]
    if unknown := next((finding.code for finding in findings if finding.code not in BY_NAME), None):
        raise ProbeError(f"a probe reported the code {unknown!r}, expected one of {', '.join(BY_NAME)}")
    skips = [item for item in said if isinstance(item, Skipped)]
    covered = {axis for probe in battery for axis in probe.axes}
    axes = {axis: _axis(axis, findings, skips, axis in covered) for axis in AXES}
    severity = _severity(axes)
    ranked = sorted(findings, key=lambda finding: -_rank(finding))
    return Verdict(severity, _headline(severity, axes, trace), axes, ranked)


def _rank(finding: Finding) -> int:
    return SEVERITIES.index(finding.severity) if finding.severity in SEVERITIES else 0


def _axis(axis: Axis, findings: Sequence[Finding], skips: Sequence[Skipped], covered: bool) -> AxisVerdict:
    """The worst finding, else what kept a probe from judging (undecided before undecidable, whatever the probes' order), else healthy."""
    own = [finding for finding in findings if BY_NAME[finding.code].axis == axis and finding.severity != "healthy"]
    if own:
        worst = max(own, key=_rank)
        return AxisVerdict(worst.severity, worst.claim)
    skipped = sorted((skip for skip in skips if skip.axis == axis), key=lambda skip: skip.state != "inconclusive")
    if skipped:
        return AxisVerdict(skipped[0].state, skipped[0].reason)
    return AxisVerdict("healthy") if covered else AxisVerdict("not measured", "no probe of this run asks it")


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
