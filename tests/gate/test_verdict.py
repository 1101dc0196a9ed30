from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import get_args

import pytest

from driftcli.cli.battery import load_battery
from driftcli.domain import Axis, Estimate, Finding, Open, Said, Severity, Skipped, Sound, Verdict
from driftcli.gate.verdict import finding_rule, outcome_of, verdict_checks
from driftcli.outcome import Outcome, Status
from driftcli.report.choices import FailOn
from driftcli.report.verdict import exit_code, judge
from driftcli.testing import Facts
from driftcli.traces.reader import read_run
from tests.report.synthetic import DRIFTING, Recipe, write_run
from tests.report.test_verdict import Says

NUMBER = Estimate(0.4, 0.3, 0.5, 20)
OF_AXIS: dict[Axis, str] = {
    "wiring": "FEEDBACK-MODE",
    "drift": "DRIFT-STATE",
    "template": "TEMPLATE-SENSITIVE",
    "capacity": "LOW-CAPACITY",
}
AXES: tuple[Axis, ...] = ("wiring", "drift", "template", "capacity")


def finding(axis: Axis, severity: Severity) -> Finding:
    return Finding(OF_AXIS[axis], severity, "a claim", NUMBER, "share", "do this")


def items(axis: Axis) -> list[Said]:
    """Every way an axis can stand."""
    graded: list[Severity] = ["miswired"] if axis == "wiring" else ["mild", "severe"]
    unsettled: list[Said] = [Skipped(axis, "inconclusive", "?"), Skipped(axis, "not applicable", "none"), Open(axis, "?", 0.2, 30)]
    if axis == "capacity":
        return [Sound(axis, "sound"), finding(axis, "severe")]
    return [Sound(axis, "sound"), *unsettled, *(finding(axis, severity) for severity in graded)]


def judged(*said: Said, axes: tuple[Axis, ...] = AXES) -> Verdict:
    return judge(Facts(), (Says(said, axes),))


def statuses(verdict: Verdict, fail_on: FailOn, *, strict: bool = False) -> dict[str, Status]:
    return {check.rule: check.status for check in verdict_checks(verdict, fail_on, strict=strict)}


def test_the_rules_come_to_the_exit_code_of_the_verdict_however_the_axes_stand() -> None:
    for said in product(*map(items, AXES)):
        verdict = judged(*said)
        for fail_on, strict in product(get_args(FailOn), (False, True)):
            checks = verdict_checks(verdict, fail_on, strict=strict)
            assert Outcome("report", "", "", "", checks).exit_code == exit_code(verdict, fail_on, strict=strict), (said, fail_on, strict)


def test_a_verdict_on_nothing_that_applies_is_a_rule_of_its_own() -> None:
    verdict = judged(Skipped("drift", "not applicable", "no state"), axes=("drift",))
    assert statuses(verdict, "mild")["verdict"] == "undecided"
    assert "verdict" not in statuses(verdict, "none")


def test_a_finding_fails_from_the_severity_asked_for_on_and_warns_below_it() -> None:
    verdict = judged(finding("drift", "severe"), finding("template", "mild"), finding("capacity", "severe"))
    assert statuses(verdict, "moderate") == {
        "DRIFT-STATE": "failed",
        "TEMPLATE-SENSITIVE": "warned",
        "LOW-CAPACITY": "warned",  # capacity never raises a verdict
        "axis:wiring": "passed",
        "axis:context": "skipped",
        "axis:domain": "skipped",
        "axis:payoff": "skipped",
    }
    assert statuses(verdict, "mild")["TEMPLATE-SENSITIVE"] == "failed"
    assert statuses(verdict, "none")["DRIFT-STATE"] == "warned"


def test_what_is_found_beside_an_undecided_wiring_is_undecided() -> None:
    verdict = judged(Skipped("wiring", "inconclusive", "?", "look there", 30), finding("template", "severe"))
    checks = {check.rule: check for check in verdict_checks(verdict, "mild", strict=False)}
    assert checks["TEMPLATE-SENSITIVE"].status == "undecided"
    assert (checks["axis:wiring"].status, checks["axis:wiring"].fix, checks["axis:wiring"].more_prompts) == ("undecided", "look there", 30)


def test_an_open_axis_counts_only_when_strict_and_says_how_many_prompts_would_tell() -> None:
    verdict = judged(Open("template", "up to 20%", 0.2, 30))
    assert statuses(verdict, "mild")["axis:template"] == "skipped"
    (check,) = [one for one in verdict_checks(verdict, "mild", strict=True) if one.rule == "axis:template"]
    assert (check.status, check.reason, check.more_prompts) == ("undecided", "up to 20%", 30)
    assert statuses(verdict, "none", strict=True)["axis:template"] == "skipped"


def test_a_note_passes_and_its_axis_is_judged_beside_it() -> None:
    found = statuses(judged(finding("template", "healthy")), "mild")
    assert (found["TEMPLATE-SENSITIVE"], found["axis:template"]) == ("passed", "passed")


def test_findings_of_one_code_are_told_apart_by_what_they_are_about() -> None:
    assert finding_rule(Finding("DOMAIN-SHIFT", "mild", "", NUMBER, "", "", category="code")) == "DOMAIN-SHIFT:code"
    assert finding_rule(Finding("TEMPLATE-SENSITIVE", "mild", "", NUMBER, "", "", "no-bos")) == "TEMPLATE-SENSITIVE:no-bos"
    assert finding_rule(Finding("DRIFT-STATE", "mild", "", NUMBER, "", "", "rewired")) == "DRIFT-STATE"


@pytest.mark.parametrize(("fail_on", "begins"), [("none", "severe drift; feeding"), ("mild", "failed: severe drift; feeding")])
def test_the_headline_says_how_it_ended_and_the_verdict(tmp_path: Path, fail_on: FailOn, begins: str) -> None:
    run = read_run(write_run(tmp_path / "run", Recipe(DRIFTING)))
    found = outcome_of("report", run, judge(run, load_battery(run.probe_names)), fail_on, strict=False)
    assert found.headline.startswith(begins)
    assert (found.command, found.subject, found.where) == ("report", "Some-Target-8B  <-  some-eagle3-head", str(tmp_path / "run"))
