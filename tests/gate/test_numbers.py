from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from driftcli.domain import Absent, Estimate
from driftcli.gate.numbers import NUMBERS, each, value_of, why_not_applicable, why_not_in, why_unknown
from driftcli.report.json import report
from driftcli.report.verdict import judge
from driftcli.statistics.costs import StepCosts
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


@pytest.mark.parametrize(
    ("name", "key"), [("survival-error", "calibration_error"), ("survival-brier", "brier"), ("survival-auroc", "auroc")]
)
def test_a_score_of_its_forecast_is_that_of_the_report(run: Run, name: str, key: str) -> None:
    rows = report(run, judge(run, ()))["survival"]["draft_prob"]["by_depth"]  # type: ignore[index,call-overload]
    assert value_of(run, f"{name}@2")[0].value == rows[1][key]["value"]  # type: ignore[index,call-overload]


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
        ("aceptance-length", "aceptance-length is no such number; did you mean acceptance-length? expected one of acceptance-length"),
        ("", "nothing is no such number; expected one of"),
        ("handoff@2", "handoff is one number for all depths"),
        ("joint@0", "'0' is no depth"),
        ("joint@", "'' is no depth"),
        ("joint@²", "'²' is no depth"),
        ("joint@3@4", "'3@4' is no depth"),
        ("condition:no-bos@3", "condition:no-bos is one number for all depths"),
        (
            "joint@3[kategory=code]",
            "[kategory=code] names no part of a run, expected [category=PATTERN] or [length=PATTERN] at the end, as joint@3[",
        ),
        ("joint[category]@3", "[category]@3 names no part of a run"),
        ("joint[category=]", "[category=] names no part of a run"),
        ("joint[category=code", "[category=code names no part of a run"),
        ("jiont[category=code]", "jiont is no such number; did you mean joint?"),
        ("handoff@2[category=code]", "handoff is one number for all depths"),
        ("compounding@2[length=2048]", "compounding is measured on the run's own prompts alone, expected one of acceptance-length, "),
        ("condition:no-bos[length=2048]", "condition:no-bos is measured on the run's own prompts alone"),
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


CODE = tuple(f"code-{number:02}" for number in range(10))
MATHS = tuple(f"maths-{number:02}" for number in range(8))
PARTED = Recipe(
    DRIFTING,
    prompts=(*CODE, *MATHS),
    categories={**dict.fromkeys(CODE, "code-python"), **dict.fromkeys(MATHS, "[maths] = x")},
    extra={
        "no-bos": ("template", Life(fresh=0.5)),
        "context-512": ("context-length", Life(fresh=0.6)),
        "context-2048": ("context-length", Life(fresh=0.4)),
        "context-2048-window-256": ("context-length", Life(fresh=0.6)),
    },
    lengths={"context-512": 512, "context-2048": 2048, "context-2048-window-256": 2048},
    costs=[StepCosts(1, 0.1, 0.1, (1.0,) * 9)],
)


@pytest.fixture(scope="module")
def parted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Prompts of two categories, one of them a name that could be taken for a pattern; and of two lengths of context."""
    return read_run(write_run(tmp_path_factory.mktemp("runs") / "parted", PARTED))


@pytest.mark.parametrize("name", [*(number.name for number in NUMBERS), "joint@3", "condition:no-bos"])
def test_of_a_category_it_is_the_number_of_a_run_on_those_prompts_alone(parted: Run, tmp_path: Path, name: str) -> None:
    alone = read_run(write_run(tmp_path / "code", replace(PARTED, prompts=CODE)))
    assert value_of(parted, f"{name}[category=code-python]") == value_of(alone, name)


def test_of_a_length_it_is_the_number_of_the_report_for_that_condition(parted: Run) -> None:
    shown = {one["name"]: one for one in report(parted, judge(parted, ()))["conditions"]}  # type: ignore[union-attr,index,call-overload]
    for length in (512, 2048):
        number, _ = value_of(parted, f"acceptance-length[length={length}]")
        assert isinstance(number, Estimate)
        said = shown[f"context-{length}"]["acceptance_length"]  # type: ignore[call-overload,index]
        assert (number.value, number.low, number.high) == (said["value"], said["low"], said["high"])  # type: ignore[call-overload,index]


def test_a_pattern_stands_for_each_part_that_fits_and_a_name_with_marks_of_a_pattern_for_itself(parted: Run) -> None:
    assert each(parted, "joint@3[category=*]") == ["joint@3[category=[maths] = x]", "joint@3[category=code-python]"]
    assert each(parted, "joint@3[category=c*]") == ["joint@3[category=code-python]"]
    assert each(parted, "joint@3[category=[maths] = x]") == ["joint@3[category=[maths] = x]"]
    assert each(parted, "joint[length=*]") == ["joint[length=512]", "joint[length=2048]"]
    assert each(parted, "joint@3") == ["joint@3"]


def test_a_part_that_the_run_has_not_is_refused_with_those_that_it_has(run: Run, parted: Run) -> None:
    has = "expected one of [maths] = x (8 prompts), code-python (10 prompts)"
    assert why_not_in(parted, "joint[category=code-pyhton]") == (
        f"this run has no category that fits 'code-pyhton'; did you mean code-python? {has}"
    )
    assert why_not_in(parted, "joint[length=4*]") == "this run has no context length that fits '4*', expected one of 512, 2048"
    assert why_not_in(run, "joint[category=*]") == "no prompt of this run has a category"
    assert "context-length probe" in why_not_in(run, "joint[length=2048]")
    assert not why_not_in(parted, "joint[category=code-*]") and not why_not_in(parted, "joint[length=2048]")
