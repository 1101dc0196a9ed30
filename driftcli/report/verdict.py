"""Rows -> findings -> verdict: the one judgement from which everything that is printed, and the exit code, follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from driftcli.codes import BY_NAME
from driftcli.conditions import BASELINE
from driftcli.domain import (
    A_SHARE,
    AXES,
    SEVERITIES,
    Axis,
    AxisState,
    AxisVerdict,
    Estimate,
    Finding,
    Open,
    Said,
    Severity,
    Skipped,
    Sound,
    Verdict,
    Withheld,
)
from driftcli.errors import ProbeError
from driftcli.printable import counted
from driftcli.probe import Probe, Trace
from driftcli.report.choices import FailOn
from driftcli.statistics.curves import compounding

SEVERITY_AXES: tuple[Axis, ...] = ("drift", "template", "context", "domain")  # wiring overrides them; capacity and payoff never raise it
GRADED: tuple[Severity, ...] = ("mild", "moderate", "severe")
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
    ranked = sorted(findings, key=lambda finding: -_rank(finding))
    return Verdict(severity, f"{_headline(severity, axes, trace)}{_drawn(trace)}", axes, ranked, _open_axes(axes))


def narrowed(verdict: Verdict, findings: Sequence[Finding], axes: Mapping[Axis, AxisVerdict]) -> Verdict:
    """The verdict that some of its findings give, on axes that stand otherwise for want of the rest; the headline stays."""
    return replace(verdict, severity=_severity(axes), axes=axes, findings=findings, open=_open_axes(axes))


def worst(findings: Sequence[Finding]) -> AxisVerdict:
    """How an axis stands by its findings, of which there are some."""
    found = max(findings, key=_rank)
    return AxisVerdict(found.severity, found.claim, found.likely)


def _drawn(trace: Trace) -> str:
    """At what temperature and for which draft tokens all that is judged holds, where that is not greedy decoding."""
    return f" (greedy draft tokens on replies drawn at temperature {trace.spec.temperature:g})" if trace.spec.temperature else ""


def _placed(finding: Finding, trace: Trace) -> Finding:
    """A finding on the baseline, but for one of the wiring, is one on what stands for it in this run."""
    own = finding.condition != BASELINE or BY_NAME[finding.code].axis == "wiring"
    return finding if own else replace(finding, condition=trace.reference)


def _rank(finding: Finding) -> int:
    return SEVERITIES.index(finding.severity) if finding.severity in SEVERITIES else 0


def _axis(axis: Axis, findings: Sequence[Finding], said: Sequence[Said], *, covered: bool) -> AxisVerdict:
    """Why it cannot be judged, else the worst finding, else what kept a probe from judging, undecided before open before undecidable
    whatever the probes' order, else healthy, with what says so.
    """
    own = [item for item in said if not isinstance(item, Finding) and item.axis == axis]
    if withheld := next((item for item in own if isinstance(item, Withheld)), None):
        return AxisVerdict("inconclusive", withheld.reason)
    found = [finding for finding in findings if BY_NAME[finding.code].axis == axis and finding.severity != "healthy"]
    if found:
        return worst(found)
    skipped = {item.state: item for item in reversed(own) if isinstance(item, Skipped)}
    if undecided := skipped.get("inconclusive"):
        return AxisVerdict(undecided.state, undecided.reason, more_prompts=undecided.more_prompts, fix=undecided.fix)
    if opened := [item for item in own if isinstance(item, Open)]:
        widest = max(opened, key=lambda item: -1.0 if item.bound is None else item.bound)
        return AxisVerdict("open", widest.reason, None, widest.bound, widest.more_prompts, widest.unit, widest.fix)
    if undecidable := skipped.get("not applicable"):
        return AxisVerdict(undecidable.state, undecidable.reason)
    sound = next((item.reason for item in own if isinstance(item, Sound)), "")
    return AxisVerdict("healthy", sound) if covered else AxisVerdict("not measured", "no probe of this run asks it")


def _severity(axes: Mapping[Axis, AxisVerdict]) -> Severity:
    """The worst that is sure, unless what decides is not: wiring and drift, or any other axis where nothing worse was found. Open axes
    neither raise it nor block it.
    """
    if axes["wiring"].state == "miswired":
        return "miswired"
    states: list[AxisState] = [axes[axis].state for axis in SEVERITY_AXES]
    if "inconclusive" in (axes["wiring"].state, axes["drift"].state):
        return "inconclusive"
    graded: list[Severity] = [grade for grade in GRADED if grade in states]
    if graded:
        return graded[-1]
    if "inconclusive" in states:
        return "inconclusive"
    if axes["drift"].state == "not applicable":
        return "not applicable"
    return "healthy" if {"healthy", "open"}.intersection(states) else "inconclusive"


def _open_axes(axes: Mapping[Axis, AxisVerdict]) -> str:
    """The axes on which nothing was found and not all is excluded, each with what is not, in a few words; empty without any."""
    open = [f"{axis} {_bound(axes[axis])}" for axis in ("wiring", *SEVERITY_AXES) if axes[axis].state == "open"]
    return f"not settled: {', '.join(open)}" if open else ""


def _bound(axis: AxisVerdict) -> str:
    if axis.bound is None:
        return "(not judged)"
    more = f"about {counted(axis.more_prompts, 'more prompt')} would tell" if axis.more_prompts else "more prompts would not tell"
    bound = f"a loss of up to {axis.bound:.0%}" if axis.unit == A_SHARE else f"a gain of up to {axis.bound:.2f} {axis.unit}"
    return f"({bound} is not excluded, {more})"


def _headline(severity: Severity, axes: Mapping[Axis, AxisVerdict], trace: Trace) -> str:
    """The verdict in one sentence, its cost first, in the words of the axis that decided it."""
    deciding: Axis = next((axis for axis in ("wiring", *SEVERITY_AXES) if axes[axis].state == severity), "drift")
    own = axes[deciding]
    if severity == "miswired":
        return own.reason
    if severity == "not applicable":
        own = axes["drift"]
        sound = [axis for axis in SEVERITY_AXES if axes[axis].state == "healthy"]
        beside = f"nothing was found on {', '.join(sound)}" if sound else "no other axis was judged"
        return f"{own.reason}; {beside}"
    if severity == "inconclusive":
        worse = [axis for axis in SEVERITY_AXES if axes[axis].state in GRADED]
        return "; ".join([f"{deciding} is {own.state}: {own.reason}", *(f"{axis} is {_graded(axes[axis])}" for axis in worse)])
    if severity != "healthy" and deciding != "drift":
        return f"{deciding}: {own.reason}"
    return _drift_headline(severity, axes["drift"], trace)


def _graded(axis: AxisVerdict) -> str:
    return f"{axis.state} for sure, most likely {axis.likely}" if axis.likely not in (None, axis.state) else axis.state


def _drift_headline(severity: Severity, drift: AxisVerdict, trace: Trace) -> str:
    damage = trace.by_depth(compounding)[-1]
    if not isinstance(damage, Estimate):
        return "no loss found on the axes that were judged"
    lost = f"{damage:z.0%} of its accuracy at depth {trace.spec.depth}"
    if severity == "healthy":
        counts = "which is not shown to matter" if drift.state == "open" else "too little to matter"
        return f"no drift found: beyond the hand-off the head loses {lost} by feeding on its own hidden state, {counts}"
    return f"feeding on its own hidden state costs the head {lost}, beyond what the hand-off costs"


def exit_code(verdict: Verdict, fail_on: FailOn, *, strict: bool = False) -> int:
    """0, 4 at or above `fail_on`, 5 when inconclusive under a `fail_on`, or where nothing that applies was judged; strict: an open axis is
    inconclusive too.
    """
    if fail_on == "none":
        return 0
    unjudged = verdict.severity == "not applicable" and not any(
        verdict.axes[axis].state == "healthy" for axis in SEVERITY_AXES if axis in verdict.axes
    )
    if verdict.severity == "inconclusive" or unjudged:
        return EXIT_INCONCLUSIVE
    if verdict.severity in SEVERITIES and SEVERITIES.index(verdict.severity) >= SEVERITIES.index(fail_on):
        return EXIT_FAILED
    return EXIT_INCONCLUSIVE if strict and verdict.open else 0


def gate_line(verdict: Verdict, fail_on: FailOn, *, strict: bool = False) -> str:
    """What `--fail-on` came to, in a sentence; empty where nothing was asked."""
    if fail_on == "none":
        return ""
    code = exit_code(verdict, fail_on, strict=strict)
    what = {0: "passed", EXIT_FAILED: "failed", EXIT_INCONCLUSIVE: "undecided"}[code]
    return f"--fail-on {fail_on}{' --strict' * strict}: {what}, the verdict is {verdict.severity}{f'; {verdict.open}' * bool(verdict.open)}"
