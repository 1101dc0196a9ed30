"""A judged run held against a policy: its findings and axes, limits on its numbers, and its changes against a baseline.

What no rule of the policy names counts by its severity, all of it together as `--fail-on` does on a report. What one names is taken out of
that verdict and counts by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from driftcli.codes import BY_NAME
from driftcli.domain import Axis, AxisVerdict, Finding, Verdict
from driftcli.gate.limits import limit_check, too_few_by
from driftcli.gate.policy import About, Accepted, Policy, about_limit, lapsed, levelled
from driftcli.gate.verdict import as_bad_as, axis_check, finding_check, finding_rule, verdict_checks
from driftcli.gate.words import headline
from driftcli.outcome import Check, Outcome, Status
from driftcli.report.choices import FailOn
from driftcli.report.evidence import pair_line
from driftcli.report.verdict import narrowed, worst
from driftcli.traces.reader import Run

NOT_COUNTED = AxisVerdict("healthy", "what was found there is judged by rules of its own")


@dataclass(frozen=True)
class Held:
    """What is held against what: a judged run, a policy, the severity that fails, the day, and changes against a baseline as rules."""

    run: Run
    verdict: Verdict
    policy: Policy
    fail_on: FailOn
    today: date
    changes: Sequence[Check] = ()

    def about(self, finding: Finding) -> About:
        """What a finding of the run is about."""
        return about(self.run, finding)

    def singled_out(self, about: About) -> bool:
        """Whether the policy says how this counts, or accepts it for now."""
        accepted = self.policy.accepts(about)
        return self.policy.rule_for(about) is not None or (accepted is not None and self.today <= accepted.until)

    def levelled(self, check: Check, about: About) -> Check:
        """A rule as the policy has it count."""
        return levelled(check, about, self.policy, self.today)


def checked(held: Held) -> Outcome:
    """How the run ends, by every rule that there is."""
    checks = [
        *(held.levelled(check, About(check.rule)) for check in held.changes),
        *_limits(held),
        *_by_severity(held),
        *_singly(held),
    ]
    checks = [_with_more(check, held.run) for check in (*checks, *_unused(held))]
    return Outcome("check", pair_line(held.run), str(held.run.path), headline(checks), checks)


def about(run: Run, finding: Finding) -> About:
    """What a finding is about."""
    axis, note, length = BY_NAME[finding.code].axis, finding.severity == "healthy", run.context_length(finding.condition)
    return About(finding_rule(finding), finding.code, axis, finding.category, finding.condition, str(length) if length else None, note)


def _of_axis(axis: Axis) -> About:
    return About(f"axis:{axis}", axis=axis)


def _limits(held: Held) -> list[Check]:
    worst_fix = next((one.fix for one in held.verdict.findings if one.severity != "healthy"), "")
    return [held.levelled(limit_check(held.run, limit, worst_fix), about_limit(limit)) for limit in held.policy.limits]


def _by_severity(held: Held) -> list[Check]:
    """What counts as it does under `--fail-on`, with what the verdict would be if the rest were not there."""
    counted = [finding for finding in held.verdict.findings if not held.singled_out(held.about(finding))]
    axes = {axis: _counted(held, axis, one, counted) for axis, one in held.verdict.axes.items()}
    checks = verdict_checks(narrowed(held.verdict, counted, axes), held.fail_on, strict=held.policy.strict)
    abouts = {one.rule: one for one in map(held.about, counted)} | {one.rule: one for one in map(_of_axis, axes)}
    left_out = {_of_axis(axis).rule for axis, one in axes.items() if one is NOT_COUNTED}
    return [held.levelled(check, abouts.get(check.rule, About(check.rule))) for check in checks if check.rule not in left_out]


def _counted(held: Held, axis: Axis, one: AxisVerdict, counted: Sequence[Finding]) -> AxisVerdict:
    """How an axis stands by what counts by its severity."""
    own = [finding for finding in counted if BY_NAME[finding.code].axis == axis and finding.severity != "healthy"]
    if own:
        return worst(own)
    return NOT_COUNTED if _graded(held, axis) or held.singled_out(_of_axis(axis)) else one


def _graded(held: Held, axis: Axis) -> bool:
    return any(BY_NAME[finding.code].axis == axis and finding.severity != "healthy" for finding in held.verdict.findings)


def _singly(held: Held) -> list[Check]:
    """What the policy names, finding by finding, and the axes that it names and that have none."""
    findings = [finding for finding in held.verdict.findings if held.singled_out(held.about(finding))]
    axes = [axis for axis in held.verdict.axes if held.singled_out(_of_axis(axis)) and not _graded(held, axis)]
    return [
        *(held.levelled(finding_check(finding, _alone(held, finding)), held.about(finding)) for finding in findings),
        *(held.levelled(axis_check(axis, held.verdict.axes[axis], _unsettled(held, axis)), _of_axis(axis)) for axis in axes),
    ]


def _alone(held: Held, finding: Finding) -> Status:
    """How a finding ends that is named, if it is neither a warning nor accepted: a note fails only where a rule means it."""
    rule = held.policy.rule_for(held.about(finding))
    if finding.severity == "healthy":
        return "failed" if rule is not None else "passed"
    enough = rule is None or rule.level != "error" or held.fail_on == "none" or as_bad_as(finding, held.fail_on)
    return "failed" if enough else "warned"


def _unsettled(held: Held, axis: Axis) -> Status:
    """How an axis without a finding ends that is named; one that is named as an error must have been measured."""
    state, rule = held.verdict.axes[axis].state, held.policy.rule_for(_of_axis(axis))
    missing = state == "not measured" and rule is not None and rule.level == "error"
    if missing or state == "inconclusive" or (state == "open" and held.policy.strict):
        return "undecided"
    return "passed" if state == "healthy" else "skipped"


def _unused(held: Held) -> list[Check]:
    """Acceptances of what is not there any more, so that a policy does not outlive what it excuses."""
    seen = [*map(held.about, held.verdict.findings), *map(_of_axis, held.verdict.axes), *map(about_limit, held.policy.limits)]
    seen += [About(check.rule) for check in held.changes]
    idle = [one for one in held.policy.accepted if not any(one.selector.matches(found) for found in seen)]
    return [Check(f"accepted:{one.selector}", "skipped", _idle(one, held.today)) for one in idle]


def _idle(one: Accepted, today: date) -> str:
    words = f"accepted until {one.until.isoformat()} ({one.reason})" if today <= one.until else lapsed(one)
    return f"{words}, and not found in this run: take it out of {one.where}"


def _with_more(check: Check, run: Run) -> Check:
    """An undecided rule with how many prompts are missing for any interval, where it knows no better."""
    more = too_few_by(run.n_prompts)
    return replace(check, more_prompts=more) if check.status == "undecided" and more and not check.more_prompts else check
