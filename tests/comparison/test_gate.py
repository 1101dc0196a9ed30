from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from driftcli.comparison.gate import outcome_of
from driftcli.comparison.pairwise import compare
from driftcli.comparison.ranking import rank
from driftcli.traces.reader import Run
from tests.comparison.runs import SOUND, WORSE, written
from tests.report.synthetic import DRIFTING, Recipe

BASE = Recipe(SOUND)


def held(before: Run, after: Run, *, strict: bool = False) -> dict[str, str]:
    outcome = outcome_of(compare((before, after), ("old", "new"), 0.02), strict=strict)
    return {check.rule: check.status for check in outcome.checks}


def test_the_acceptance_length_fails_and_whatever_else_regressed_warns(tmp_path: Path) -> None:
    before, after = written(tmp_path, BASE, "a"), written(tmp_path, Recipe(DRIFTING), "b")
    outcome = outcome_of(compare((before, after), ("old", "new"), 0.02))
    statuses = {check.rule: check.status for check in outcome.checks}
    assert (statuses["compare:acceptance_length"], statuses["compare:compounding_8"], outcome.exit_code) == ("failed", "warned", 4)
    assert outcome.headline.startswith("REGRESSED: new accepts fewer draft tokens than old: acceptance length ")
    (decides, *_) = outcome.checks
    assert decides.estimate is not None
    assert decides.estimate.high < 0
    assert decides.reason.startswith("acceptance length: regressed, ")
    assert outcome.where.endswith("b")


def test_without_a_gate_what_would_have_ended_one_warns(tmp_path: Path) -> None:
    runs = [written(tmp_path, recipe, name) for name, recipe in {"a": BASE, "b": Recipe(DRIFTING), "c": BASE}.items()]
    for found in (compare((runs[0], runs[1]), ("old", "new"), 0.02), rank(runs, ("a", "b", "c"), 0.02)):
        gated, told = outcome_of(found), outcome_of(found, gated=False)
        assert (gated.exit_code, told.exit_code) == (4, 0)
        assert [check.status for check in told.checks] == ["warned" if check.status == "failed" else check.status for check in gated.checks]


def test_an_improvement_passes(tmp_path: Path) -> None:
    assert held(written(tmp_path, Recipe(WORSE), "a"), written(tmp_path, BASE, "b"))["compare:acceptance_length"] == "passed"


def test_few_prompts_are_undecided_with_how_many_are_lacking_and_numbers_beside_are_skipped(tmp_path: Path) -> None:
    few = replace(BASE, prompts=BASE.prompts[:3])
    comparison = compare((written(tmp_path, few, "a"), written(tmp_path, replace(few, life=WORSE), "b")), ("old", "new"), 0.02)
    decides, *rest = outcome_of(comparison).checks
    assert (decides.status, decides.more_prompts) == ("undecided", 5)
    assert {check.status for check in rest} == {"skipped"}


def test_of_several_runs_each_is_a_rule_against_the_first(tmp_path: Path) -> None:
    runs = [written(tmp_path, recipe, name) for name, recipe in {"a": BASE, "b": Recipe(WORSE), "c": BASE}.items()]
    outcome = outcome_of(rank(runs, ("a", "b", "c"), 0.02))
    assert [(check.rule, check.status) for check in outcome.checks] == [
        ("compare:acceptance_length:b", "failed"),
        ("compare:acceptance_length:c", "passed"),
    ]
    assert outcome.exit_code == 4
