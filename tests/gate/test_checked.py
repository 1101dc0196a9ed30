from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from driftcli.domain import Finding, Open, Said, Severity, Skipped, Sound, Verdict
from driftcli.gate.checked import Held, checked
from driftcli.gate.limits import Limit
from driftcli.gate.policy import Accepted, Level, Policy, Rule, Selector
from driftcli.outcome import Check, Outcome, Status
from driftcli.report.choices import FailOn
from driftcli.report.verdict import exit_code, judge
from driftcli.traces.reader import Run, read_run
from tests.gate.test_verdict import NUMBER, judged
from tests.report.synthetic import WITHOUT_STATE, Life, Recipe, write_run

TODAY = date(2026, 6, 15)
NOTHING = Policy()
WINDOW = Finding("WINDOW-HELPS", "healthy", "a window helps", NUMBER, "drafts", "serve with it", "context-1024")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(write_run(tmp_path_factory.mktemp("runs") / "run", Recipe()))


def found(code: str, severity: Severity, category: str | None = None, condition: str = "baseline") -> Finding:
    return Finding(code, severity, f"{code} is there", NUMBER, "share", "do this", condition, category=category)


def rule(level: Level, **selected: str) -> Rule:
    return Rule(Selector(**selected), level, "policy.toml, rules[0]")  # type: ignore[arg-type]


def accepted(until: date, **selected: str) -> Accepted:
    return Accepted(Selector(**selected), "known", until, "policy.toml, accepted[0]")  # type: ignore[arg-type]


def held(run: Run, verdict: Verdict, policy: Policy = NOTHING, fail_on: FailOn = "mild", changes: Sequence[Check] = ()) -> Outcome:
    return checked(Held(run, verdict, policy, fail_on, TODAY, changes))


def statuses(outcome: Outcome) -> dict[str, Status]:
    return {check.rule: check.status for check in outcome.checks}


DRIFT, TEMPLATE, CAPACITY = found("DRIFT-STATE", "severe"), found("TEMPLATE-SENSITIVE", "moderate"), found("LOW-CAPACITY", "severe")
STANDINGS: list[tuple[Said, ...]] = [
    (DRIFT,),
    (DRIFT, TEMPLATE),
    (Skipped("wiring", "inconclusive", "?"), TEMPLATE),
    (Skipped("template", "inconclusive", "?"), found("DRIFT-STATE", "mild")),
    (Open("template", "?", 0.2, 30),),
    (Skipped("drift", "not applicable", "none"),),
    (CAPACITY, Sound("drift", "sound")),
]


@pytest.mark.parametrize("said", STANDINGS, ids=range(len(STANDINGS)))
def test_without_a_policy_it_ends_as_the_report_does(run: Run, said: tuple[Said, ...]) -> None:
    fails: tuple[FailOn, ...] = ("none", "mild", "severe")
    for fail_on in fails:
        for strict in (False, True):
            outcome = held(run, judged(*said), Policy(strict=strict), fail_on)
            assert outcome.exit_code == exit_code(judged(*said), fail_on, strict=strict)


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        (Policy(), 4),
        (Policy(rules=[rule("off", code="DRIFT-STATE")]), 0),
        (Policy(rules=[rule("warn", code="DRIFT-*")]), 0),
        (Policy(rules=[rule("warn", axis="drift")]), 0),
        (Policy(rules=[rule("off", axis="template")]), 4),
        (Policy(accepted=[accepted(TODAY, code="DRIFT-STATE")]), 0),
        (Policy(accepted=[accepted(date(2026, 6, 14), code="DRIFT-STATE")]), 4),
    ],
)
def test_a_finding_that_a_policy_names_no_longer_makes_the_verdict(run: Run, policy: Policy, code: int) -> None:
    assert held(run, judged(DRIFT, Sound("template", "sound")), policy).exit_code == code


def test_what_is_left_of_an_axis_still_counts(run: Run) -> None:
    shift = [found("DOMAIN-SHIFT", "severe", "code-python"), found("DOMAIN-SHIFT", "moderate", "maths")]
    verdict = judged(*shift, axes=("drift", "domain"))
    policy = Policy(rules=[rule("warn", code="DOMAIN-SHIFT", category="code-*")])
    outcome = held(run, verdict, policy, "moderate")
    assert statuses(outcome) | {"DOMAIN-SHIFT:code-python": "warned", "DOMAIN-SHIFT:maths": "failed"} == statuses(outcome)
    assert held(run, verdict, policy, "severe").exit_code == 0  # the severe one warns, what is left is moderate


def test_by_the_condition_a_length_is_let_off(run: Run) -> None:
    verdict = judged(found("LENGTH-LOSS", "severe", condition="context-2048"), axes=("drift", "context"))
    assert held(run, verdict, Policy(rules=[rule("off", condition="context-*")])).exit_code == 0
    assert held(run, verdict, Policy(rules=[rule("off", condition="context-1*")])).exit_code == 4


def test_by_the_tokens_of_context_a_finding_is_let_off_whatever_its_condition_is_called(tmp_path: Path) -> None:
    recipe = Recipe(extra={"long": ("context-length", Life())}, lengths={"long": 2048})
    long = read_run(write_run(tmp_path / "run", recipe))
    verdict = judged(found("LENGTH-LOSS", "severe", condition="long"), axes=("drift", "context"))
    assert held(long, verdict, Policy(rules=[rule("warn", length="2*")])).exit_code == 0
    assert held(long, verdict, Policy(rules=[rule("warn", length="1*")])).exit_code == 4
    assert held(long, judged(DRIFT), Policy(rules=[rule("off", length="*")])).exit_code == 4  # it is of no length


def test_an_axis_that_never_raises_a_verdict_fails_where_a_policy_says_so_from_the_severity_asked_for_on(run: Run) -> None:
    mild = judged(found("LOW-CAPACITY", "mild"), axes=("drift", "capacity"))
    policy = Policy(rules=[rule("error", axis="capacity")])
    assert held(run, mild).exit_code == 0
    assert held(run, mild, policy, "mild").exit_code == held(run, mild, policy, "none").exit_code == 4
    assert held(run, mild, policy, "moderate").exit_code == 0


def test_what_is_named_as_an_error_fails_though_the_wiring_is_undecided(run: Run) -> None:
    verdict = judged(Skipped("wiring", "inconclusive", "?"), TEMPLATE)
    assert held(run, verdict).exit_code == 5
    assert held(run, verdict, Policy(rules=[rule("error", code="TEMPLATE-SENSITIVE")])).exit_code == 4


def test_a_note_fails_only_where_its_code_is_named(run: Run) -> None:
    verdict = judged(WINDOW, axes=("drift", "context"))
    assert statuses(held(run, verdict))["WINDOW-HELPS:context-1024"] == "passed"
    assert held(run, verdict, Policy(rules=[rule("error", axis="context")])).exit_code == 0
    assert held(run, verdict, Policy(rules=[rule("error", code="WINDOW-HELPS")])).exit_code == 4


@pytest.mark.parametrize(
    ("level", "strict", "status"),
    [("off", True, "skipped"), ("warn", True, "warned"), ("error", True, "undecided"), ("error", False, "skipped")],
)
def test_an_open_axis_counts_as_it_is_named_and_when_strict(run: Run, level: Level, strict: bool, status: Status) -> None:
    verdict = judged(Open("template", "?", 0.2, 30))
    outcome = held(run, verdict, Policy(strict=strict, rules=[rule(level, axis="template")]))
    assert statuses(outcome)["axis:template"] == status
    assert outcome.exit_code == (5 if status == "undecided" else 0)


def test_an_axis_that_is_named_as_an_error_must_have_been_measured(run: Run) -> None:
    verdict = judged(Sound("drift", "sound"), axes=("drift",))
    outcome = held(run, verdict, Policy(rules=[rule("error", axis="context")]))
    assert statuses(outcome)["axis:context"] == "undecided" and outcome.headline.startswith("cannot tell: no probe of this run asks it")
    assert held(run, verdict, Policy(rules=[rule("warn", axis="context")])).exit_code == 0


def test_a_limit_that_does_not_apply_is_named_in_the_answer(tmp_path: Path) -> None:
    lm = read_run(write_run(tmp_path / "run", Recipe(WITHOUT_STATE)))
    policy = Policy(limits=[Limit("max", "compounding", 0.1, "--max"), Limit("min", "joint@1", 0.2, "--min")])
    outcome = held(lm, judged(Skipped("drift", "not applicable", "no state"), axes=("drift",)), policy, "none")
    assert outcome.headline == "passed: 1 rule holds; not judged: max:compounding"


def test_limits_and_changes_are_rules_that_a_policy_names_by_their_ids(run: Run) -> None:
    changes = [Check("compare:acceptance_length", "failed", "regressed"), Check("compare:handoff", "warned", "regressed")]
    policy = Policy(limits=[Limit("min", "joint@3", 0.99, "--min")])
    outcome = held(run, judged(Sound("drift", "sound")), policy, "none", changes)
    assert statuses(outcome) | {"compare:acceptance_length": "failed", "min:joint@3": "failed"} == statuses(outcome)
    eased = replace(policy, rules=[rule("warn", rule="min:*")], accepted=[accepted(TODAY, rule="compare:*")])
    outcome = held(run, judged(Sound("drift", "sound")), eased, "none", changes)
    assert outcome.exit_code == 0
    assert [check.accepted for check in outcome.checks[:2]] == ["known (until 2026-06-15)", ""]  # what only warned needed none


def test_an_acceptance_of_what_is_not_there_is_named_to_be_taken_out(run: Run) -> None:
    outcome = held(run, judged(Sound("drift", "sound")), Policy(accepted=[accepted(TODAY, code="DRIFT-STATE")]))
    (idle,) = [check for check in outcome.checks if check.rule.startswith("accepted:")]
    assert (idle.rule, idle.status) == ("accepted:code=DRIFT-STATE", "skipped")
    assert idle.reason == "accepted until 2026-06-15 (known), and not found in this run: take it out of policy.toml, accepted[0]"


def test_what_three_prompts_leave_undecided_says_how_many_are_missing(tmp_path: Path) -> None:
    short = read_run(write_run(tmp_path / "run", Recipe(prompts=("a", "b", "c"))))
    outcome = held(short, judge(short, ()), Policy(limits=[Limit("min", "acceptance-length", 1.5, "--min")]))
    assert outcome.exit_code == 5
    assert {check.more_prompts for check in outcome.checks if check.status == "undecided"} == {5}
    assert (
        outcome.headline.startswith("cannot tell: acceptance-length 3.44, but") and "at least 5 more prompts are needed" in outcome.headline
    )


def test_the_headline_is_the_answer_with_its_first_reason_and_a_count(run: Run) -> None:
    assert held(run, judged(DRIFT, TEMPLATE)).headline == "failed: severe: DRIFT-STATE is there; and 1 more"
    assert held(run, judged(Sound("drift", "sound"))).headline == "passed: 4 rules hold"
    assert held(run, judged(DRIFT), fail_on="none").headline == "passed: 3 rules hold, 1 warning"
    shut = Policy(rules=[rule("off", rule="*")])
    assert held(run, judged(DRIFT), shut).headline == "passed: no rule failed"
    unsure = held(run, judged(Skipped("drift", "inconclusive", "too noisy", more_prompts=40)))
    assert unsure.headline == "cannot tell: too noisy; about 40 more prompts would tell"
