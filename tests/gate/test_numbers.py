from __future__ import annotations

from pathlib import Path

import pytest

from driftcli.domain import Absent, Estimate
from driftcli.gate.numbers import NUMBERS, value_of, why_not_applicable, why_not_in, why_unknown
from driftcli.report.json import report
from driftcli.report.verdict import judge
from driftcli.traces.reader import Run, read_run
from tests.report.synthetic import DRIFTING, WITHOUT_STATE, Life, Recipe, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    recipe = Recipe(DRIFTING, extra={"no-bos": ("template", Life(fresh=0.5))})
    return read_run(write_run(tmp_path_factory.mktemp("runs") / "drifting", recipe))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("acceptance-length", "acceptance_length"),
        ("emitted-per-round", "emitted_per_round"),
        ("handoff", "handoff"),
        ("tax", "self_feeding_tax"),
    ],
)
def test_a_limit_is_on_the_very_number_of_the_report(run: Run, name: str, key: str) -> None:
    shown = report(run, judge(run, ()))["baseline"][key]  # type: ignore[index,call-overload]
    number, _ = value_of(run, name)
    assert isinstance(number, Estimate)
    assert [number.value, number.low, number.high] == [shown["value"], shown["low"], shown["high"]]  # type: ignore[index,call-overload]


@pytest.mark.parametrize(("name", "key"), [("joint", "joint"), ("accuracy", "forced_accuracy"), ("rms-ratio", "rms_ratio")])
def test_a_number_by_depth_is_that_of_the_depth_behind_the_at_and_else_of_the_last(run: Run, name: str, key: str) -> None:
    rows = report(run, judge(run, ()))["baseline"]["by_depth"]  # type: ignore[index,call-overload]
    assert value_of(run, f"{name}@3")[0].value == rows[2][key]  # type: ignore[index,call-overload]
    assert value_of(run, name)[0].value == rows[7][key]  # type: ignore[index,call-overload]


def test_every_number_can_be_asked_of_a_run_and_is_one_number(run: Run) -> None:
    for number in NUMBERS:
        assert isinstance(value_of(run, number.name)[0], Estimate | Absent)
        assert not why_unknown(number.name)


def test_of_a_condition_it_is_what_it_keeps_of_the_accepted_draft_tokens(run: Run) -> None:
    number, unit = value_of(run, "condition:no-bos")
    assert number.value is not None and 0 < number.value < 1
    assert unit == "of the baseline's accepted draft tokens"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("aceptance-length", "no such number; did you mean acceptance-length? expected one of acceptance-length"),
        ("", "no such number; expected one of"),
        ("handoff@2", "handoff is one number for all depths"),
        ("joint@0", "'0' is no depth"),
        ("joint@", "'' is no depth"),
        ("joint@²", "'²' is no depth"),
        ("joint@3@4", "'3@4' is no depth"),
    ],
)
def test_a_name_that_is_none_is_answered_with_what_was_meant(name: str, said: str) -> None:
    assert said in why_unknown(name)


def test_what_only_other_runs_have_is_said_with_what_this_one_has(run: Run) -> None:
    assert why_not_in(run, "joint@9") == "this run drafted 8 tokens a chain, expected a depth up to that"
    assert why_not_in(run, "condition:no-boss") == "this run measured no such condition; did you mean no-bos? expected one of no-bos"
    assert not why_not_in(run, "condition:no-bos") and not why_not_in(run, "joint@8")


def test_what_is_of_its_own_state_does_not_apply_to_a_drafter_without_one(run: Run, tmp_path: Path) -> None:
    other = read_run(write_run(tmp_path / "run", Recipe(WITHOUT_STATE)))
    assert "feeds no state" in why_not_applicable(other, "compounding@3")
    assert not why_not_applicable(other, "joint@3") and not why_not_applicable(run, "compounding")
