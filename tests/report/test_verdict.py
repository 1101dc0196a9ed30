from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import get_args

import pytest

from driftcli.conditions import Condition
from driftcli.domain import AXES, Axis, Estimate, Finding, Open, PairCard, RunSpec, Said, Severity, Skipped, Verdict
from driftcli.errors import ProbeError
from driftcli.probe import Trace
from driftcli.report import verdict as verdicts
from driftcli.report.choices import FailOn
from driftcli.report.evidence import banner
from driftcli.report.verdict import exit_code, gate_line, judge
from driftcli.testing import Facts, Head

HEALTHY = Head()
NUMBER = Estimate(0.4, 0.3, 0.5, 20)
OF_AXIS: dict[Axis, str] = {"drift": "DRIFT-STATE", "capacity": "LOW-CAPACITY", "wiring": "X-WIRING", "template": "X-TEMPLATE"}


@dataclass(frozen=True)
class Says:
    """A probe that says what it is told to."""

    items: tuple[Said, ...] = ()
    axes: tuple[Axis, ...] = ("drift",)
    name: str = "says"

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        return ()

    def judge(self, trace: Trace) -> Iterator[Said]:
        yield from self.items


@pytest.fixture(autouse=True)
def _codes_of_every_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes of axes that no probe judges yet, so that the mapping is tested whole."""
    drift = verdicts.BY_NAME["DRIFT-STATE"]
    more = {OF_AXIS[axis]: type(drift)(OF_AXIS[axis], axis, "", "", ()) for axis in ("wiring", "template")}
    monkeypatch.setattr(verdicts, "BY_NAME", {**verdicts.BY_NAME, **more})


def finding(axis: Axis, severity: Severity, claim: str = "a claim") -> Finding:
    return Finding(OF_AXIS[axis], severity, claim, NUMBER, "share", "do this")


def judged(*items: Said, axes: tuple[Axis, ...] = ("drift",), story: Head = HEALTHY) -> Verdict:
    return judge(Facts(story), (Says(items, axes),))


# ---- axes


def test_an_axis_that_a_probe_covers_and_says_nothing_about_is_healthy_and_any_other_is_not_measured() -> None:
    axes = judged(axes=("drift", "capacity")).axes
    assert list(axes) == list(AXES)
    assert {axis for axis, one in axes.items() if one.state == "healthy"} == {"drift", "capacity"}
    assert {one.state for axis, one in axes.items() if axis not in ("drift", "capacity")} == {"not measured"}
    assert all(one.reason for one in axes.values() if one.state == "not measured")


@pytest.mark.parametrize("order", list(permutations(["mild", "severe", "moderate"])))
def test_an_axis_stands_where_its_worst_finding_does_whatever_the_order(order: tuple[Severity, ...]) -> None:
    said = judged(*(finding("drift", severity, f"it is {severity}") for severity in order))
    assert (said.axes["drift"].state, said.axes["drift"].reason) == ("severe", "it is severe")
    assert said.severity == "severe"


def test_a_note_raises_nothing() -> None:
    said = judged(finding("drift", "healthy"))
    assert (said.severity, said.axes["drift"].state) == ("healthy", "healthy")
    assert len(said.findings) == 1


def test_a_finding_outweighs_a_skip_of_its_axis() -> None:
    assert judged(Skipped("drift", "inconclusive", "?"), finding("drift", "mild")).axes["drift"].state == "mild"


@pytest.mark.parametrize("states", [("inconclusive", "not applicable"), ("not applicable", "inconclusive")])
def test_an_axis_that_one_probe_cannot_and_another_could_not_judge_is_inconclusive(states: tuple[str, str]) -> None:
    battery = [Says((Skipped("drift", state, state),)) for state in states]  # type: ignore[arg-type]
    assert judge(Facts(), battery).axes["drift"].state == "inconclusive"


def test_findings_are_ranked_from_the_worst_and_else_kept_in_the_order_of_the_battery() -> None:
    said = judged(
        finding("drift", "mild", "a"), finding("capacity", "healthy", "b"), finding("drift", "severe", "c"), finding("drift", "mild", "d")
    )
    assert [one.claim for one in said.findings] == ["c", "a", "d", "b"]


def test_a_code_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ProbeError, match="'DRIFT-OF-SNOW', expected one of AUX-LAYERS"):
        judged(Finding("DRIFT-OF-SNOW", "mild", "", NUMBER, "", ""))


# ---- the one severity


def test_miswired_overrides_everything() -> None:
    said = judged(finding("drift", "severe"), finding("wiring", "miswired", "streams are swapped"), axes=("drift", "wiring"))
    assert (said.severity, said.headline) == ("miswired", "streams are swapped")


def test_a_wiring_finding_short_of_miswired_does_not_raise_the_verdict() -> None:
    assert judged(finding("wiring", "mild"), axes=("drift", "wiring")).severity == "healthy"


@pytest.mark.parametrize("severity", ["mild", "moderate", "severe"])
def test_capacity_is_reported_as_an_axis_and_never_raises_the_verdict(severity: Severity) -> None:
    said = judged(finding("capacity", severity), axes=("drift", "capacity"))
    assert (said.severity, said.axes["capacity"].state) == ("healthy", severity)


def test_the_worst_of_the_judging_axes_decides() -> None:
    said = judged(finding("drift", "mild"), finding("template", "moderate", "30% fewer"), axes=("drift", "template"))
    assert (said.severity, said.headline) == ("moderate", "template: 30% fewer")


def test_a_healthy_axis_beside_an_inconclusive_one_is_no_clean_bill() -> None:
    said = judged(Skipped("template", "inconclusive", "too few prompts"), axes=("drift", "template"))
    assert (said.severity, said.headline) == ("inconclusive", "template is inconclusive: too few prompts")


def test_damage_beside_an_inconclusive_axis_is_still_damage() -> None:
    said = judged(finding("drift", "mild"), Skipped("template", "inconclusive", "?"), axes=("drift", "template"))
    assert said.severity == "mild"


def test_a_drafter_that_cannot_drift_is_never_called_healthy() -> None:
    said = judged(Skipped("drift", "not applicable", "no state"))
    assert (said.severity, said.axes["drift"].state) == ("not applicable", "not applicable")
    assert said.headline == "no state; no other axis was judged"
    sound = judged(Skipped("drift", "not applicable", "no state"), axes=("drift", "template"))
    assert (sound.severity, sound.headline) == ("not applicable", "no state; nothing was found on template")
    assert exit_code(sound, "mild") == 0
    found = judged(Skipped("drift", "not applicable", "no state"), finding("template", "mild"), axes=("drift", "template"))
    assert found.severity == "mild"  # what applies is judged all the same


def test_what_is_open_neither_raises_the_verdict_nor_blocks_it_and_is_named_with_its_bound() -> None:
    said = judged(Open("template", "nothing found", 0.22, 70), axes=("drift", "template"))
    assert (said.severity, said.axes["template"].state) == ("healthy", "open")
    assert said.open == "not settled: template (a loss of up to 22% is not excluded, about 70 more prompts would tell)"
    assert judged(Open("template", "?", 0.5), finding("drift", "mild"), axes=("drift", "template")).severity == "mild"
    assert judged(Open("template", "?"), axes=("drift", "template")).open == "not settled: template (not judged)"


def test_an_undecided_probe_outweighs_an_open_one_of_its_axis_and_the_widest_bound_is_told() -> None:
    said = judged(Open("template", "narrow", 0.2), Open("template", "wide", 0.3), axes=("drift", "template"))
    assert (said.axes["template"].reason, said.axes["template"].bound) == ("wide", 0.3)
    both = judged(Open("template", "?", 0.2), Skipped("template", "inconclusive", "shown"), axes=("drift", "template"))
    assert (both.severity, both.axes["template"].state) == ("inconclusive", "inconclusive")


@pytest.mark.parametrize("axis", ["wiring", "drift"])
def test_where_what_decides_is_undecided_nothing_is_sure_and_the_finding_is_named(axis: Axis) -> None:
    said = judged(Skipped(axis, "inconclusive", "?"), finding("template", "severe"), axes=("drift", "wiring", "template"))
    assert (said.severity, said.headline) == ("inconclusive", f"{axis} is inconclusive: ?; template is severe")


def test_what_is_sure_decides_and_what_is_likely_is_told_beside() -> None:
    said = judged(replace(finding("drift", "mild"), likely="moderate"))
    assert (said.severity, said.axes["drift"].likely) == ("mild", "moderate")
    assert banner(said) == "AT LEAST MILD DRIFT (most likely moderate)"
    assert banner(judged(finding("drift", "mild"))) == "MILD DRIFT"


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ((), "NO DRIFT"),
        ((Open("drift", "?", 0.08),), "NO DRIFT FOUND"),
        ((Skipped("drift", "not applicable", "no state"),), "DRIFT NOT APPLICABLE"),
        ((Skipped("drift", "inconclusive", "?"),), "INCONCLUSIVE"),
    ],
)
def test_the_banner_claims_no_more_than_was_judged(items: tuple[Said, ...], words: str) -> None:
    assert banner(judged(*items)) == words


def test_a_battery_without_a_judging_probe_gives_no_clean_bill() -> None:
    said = judged(axes=("capacity",))
    assert (said.severity, said.headline) == ("inconclusive", "drift is not measured: no probe of this run asks it")


def test_the_headline_gives_the_cost_first_with_its_interval() -> None:
    story = Head(forced=(80, 72, 64, 56))  # 24/80 at depth 4, less a hand-off of 8/80
    assert judged(finding("drift", "moderate"), story=story).headline == (
        "feeding on its own hidden state costs the head 20% [20%, 20%] of its accuracy at depth 4, beyond what the hand-off costs"
    )
    assert judged().headline == (
        "no drift found: beyond the hand-off the head loses 0% [0%, 0%] of its accuracy at depth 4 by feeding on its own hidden state, too little to matter"
    )


# ---- exit codes


@pytest.mark.parametrize(
    ("severity", "codes"),
    [
        # fail-on      none mild moderate severe
        ("healthy", (0, 0, 0, 0)),
        ("mild", (0, 4, 0, 0)),
        ("moderate", (0, 4, 4, 0)),
        ("severe", (0, 4, 4, 4)),
        ("miswired", (0, 4, 4, 4)),
        ("inconclusive", (0, 5, 5, 5)),
        ("not applicable", (0, 5, 5, 5)),  # nothing else was judged
    ],
)
def test_every_severity_ends_in_its_exit_code_under_every_fail_on(severity: Severity, codes: tuple[int, ...]) -> None:
    assert tuple(exit_code(Verdict(severity, ""), fail_on) for fail_on in get_args(FailOn)) == codes


def test_the_exit_codes_above_cover_every_severity_there_is() -> None:
    assert set(get_args(Severity)) == {"healthy", "mild", "moderate", "severe", "miswired", "inconclusive", "not applicable"}


def test_what_is_open_passes_the_gate_unless_it_is_strict_and_the_gate_says_so() -> None:
    open = Verdict("healthy", "", open="not settled: context (a loss of up to 22% is not excluded, about 70 more prompts would tell)")
    assert (exit_code(open, "mild"), exit_code(open, "mild", strict=True), exit_code(open, "none", strict=True)) == (0, 5, 0)
    assert exit_code(Verdict("mild", "", open="not settled: context (not judged)"), "mild", strict=True) == 4
    assert gate_line(open, "mild") == f"--fail-on mild: passed, the verdict is healthy; {open.open}"
    assert gate_line(open, "mild", strict=True) == f"--fail-on mild --strict: undecided, the verdict is healthy; {open.open}"
    assert gate_line(Verdict("severe", ""), "moderate") == "--fail-on moderate: failed, the verdict is severe"
    assert gate_line(open, "none") == ""
