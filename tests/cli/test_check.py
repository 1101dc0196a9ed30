"""The command on runs without a model; what a gate is for, the whole story on runs of a trained head, stands in `test_check_story`."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from driftcli.cli import checking
from tests.cli.test_report import ended
from tests.report.synthetic import DRIFTING, Life, Recipe, write_run


@pytest.fixture(scope="module")
def drifting(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_run(tmp_path_factory.mktemp("runs") / "drifting", Recipe(DRIFTING)))


def rules(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    return {check["rule"]: check["status"] for check in json.loads(capsys.readouterr().out)["checks"]}


def test_a_drifting_head_fails_unless_something_else_says_what_counts(drifting: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["check", drifting]) == 4
    assert capsys.readouterr().out.startswith("failed: severe: ")
    assert ended(["check", drifting, "--min", "joint@1=0.5", "--format", "json"]) == 0
    assert rules(capsys).items() >= {"min:joint@1": "passed", "DRIFT-STATE": "warned"}.items()
    assert ended(["check", drifting, "--min", "joint@1=0.5", "--fail-on", "severe"]) == 4


def test_limits_of_the_command_line_stand_in_place_of_those_of_the_file(
    drifting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policy.toml").write_text('[limits]\n"joint@1" = { min = 0.99 }\ncompounding = { max = 0.01 }\n')
    asked = ["check", drifting, "--policy", str(tmp_path / "policy.toml"), "--format", "json"]
    assert ended(asked) == 4
    assert rules(capsys).items() >= {"min:joint@1": "failed", "max:compounding": "failed"}.items()
    assert ended([*asked, "--min", "joint@1=0.5", "--max", "compounding=0.9"]) == 0
    assert rules(capsys).items() >= {"min:joint@1": "passed", "max:compounding": "passed"}.items()


@pytest.mark.parametrize(("today", "code"), [(date(2026, 6, 30), 0), (date(2026, 7, 1), 4)])
def test_what_is_accepted_counts_again_behind_its_last_day(
    drifting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, today: date, code: int
) -> None:
    (tmp_path / "policy.toml").write_text('[[accepted]]\naxis = "drift"\nreason = "a new head is in training"\nuntil = 2026-06-30\n')
    monkeypatch.setattr(checking, "today", lambda: today)
    assert ended(["check", drifting, "--policy", str(tmp_path / "policy.toml")]) == code


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--min", "aceptance-length=2"], "--min aceptance-length=2: aceptance-length is no such number; did you mean acceptance-length?"),
        (["--min", "=2"], "--min =2: nothing is no such number"),
        (["--max", "handoff"], "--max handoff: '' is no finite number, expected NAME=NUMBER, as handoff=0.5"),
        (["--max", "handoff=nan"], "'nan' is no finite number"),
        (["--max", "handoff=2%"], "'2%' is no finite number"),
        (["--min", "joint@9=0.1"], "this run drafted 8 tokens a chain"),
        (["--min", "condition:no-bos=0.1"], "this run measured no such condition"),
        (["--min", "joint@1[category=code]=0.1"], "no prompt of this run has a category"),
        (["--min", "joint@1[category=code]"], "'' is no finite number, expected NAME=NUMBER, as joint@1[category=code]=0.5"),
        (["--min", "joint@1[kind=code]=0.1"], "[kind=code] names no part of a run, expected [category=PATTERN] or [length=PATTERN]"),
        (["--band", "2"], "--band: 2 is no band, expected a share between 0 and 1; 0.02 stands for 2%"),
        (["--band", "0"], "--band: 0 is no band"),
        (["--min", "handoff=0.1", "--min", "handoff=0.2"], "--min handoff: is given twice"),
        (["--select", "DRIFT-STAT"], "--select DRIFT-STAT: matches no code; did you mean DRIFT-STATE?"),
        (["--ignore", "X"], "--ignore X: matches no code"),
    ],
)
def test_what_cannot_be_asked_is_a_usage_error(drifting: str, asked: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["check", drifting, *asked]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and said in shown.err


def test_a_wrong_policy_is_refused_and_so_is_one_about_what_the_run_has_not(
    drifting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "policy.toml"
    for content, said in (
        ("fail-on = 3", "policy.toml, fail-on: saw 3"),
        ('[limits]\n"joint@9" = { min = 1 }', "limits.joint@9: this run drafted 8"),
    ):
        path.write_text(content)
        assert ended(["check", drifting, "--policy", str(path)]) == 3
        assert said in capsys.readouterr().err


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    assert ended(["check", str(tmp_path)]) == 3


def test_the_same_run_gives_the_same_bytes(drifting: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = [(ended(["check", drifting, "--format", kind]), capsys.readouterr().out) for kind in ("terminal", "json") for _ in range(2)]
    assert shown[0] == shown[1] and shown[2] == shown[3]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two categories of 8 prompts, and a length of context at which the head fares worse."""
    recipe = Recipe(
        categories={f"prompt-{number:02}": "code-python" if number < 8 else "maths" for number in range(16)},
        extra={"context-512": ("context-length", Life()), "context-2048": ("context-length", Life(fresh=0.3))},
        lengths={"context-512": 512, "context-2048": 2048},
    )
    return str(write_run(tmp_path_factory.mktemp("runs") / "two", recipe))


def test_limits_hold_on_each_category_and_length_that_fits(two: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["check", two, "--format", "json", "--min", "joint@1[category=*]=0.5"]
    assert ended(asked) == 0
    assert rules(capsys).items() >= {"min:joint@1[category=code-python]": "passed", "min:joint@1[category=maths]": "passed"}.items()
    assert ended([*asked, "--min", "joint@1[length=*]=0.5"]) == 4
    assert rules(capsys).items() >= {"min:joint@1[length=512]": "passed", "min:joint@1[length=2048]": "failed"}.items()


def test_of_limits_that_fit_the_last_decides_and_the_command_line_comes_last(
    two: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policy.toml").write_text('[limits]\n"joint@1[category=*]" = { min = 0.99 }\n"joint@1[category=maths]" = { min = 0.1 }\n')
    asked = ["check", two, "--format", "json", "--policy", str(tmp_path / "policy.toml")]
    assert ended(asked) == 4
    assert rules(capsys).items() >= {"min:joint@1[category=code-python]": "failed", "min:joint@1[category=maths]": "passed"}.items()
    assert ended([*asked, "--min", "joint@1[category=code-*]=0.1"]) == 0


@pytest.mark.parametrize(("level", "status", "code"), [("off", "skipped", 0), ("warn", "warned", 0), ("error", "failed", 4)])
def test_a_limit_counts_by_its_level_and_by_rules_on_its_category(
    two: str, tmp_path: Path, level: str, status: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "policy.toml"
    for content in (
        f'[limits]\n"joint@1[category=code-*]" = {{ min = 0.99, level = "{level}" }}\n',
        f'[limits]\n"joint@1[category=code-*]" = {{ min = 0.99 }}\n[[rules]]\ncategory = "c*"\nlevel = "{level}"\n',
        f'[limits]\n"joint@1[category=*]" = {{ min = 0.99 }}\n[[rules]]\ncategory = "maths"\nlevel = "off"\n'
        f'[[rules]]\nrule = "min:joint@1[category=code-python]"\nlevel = "{level}"\n',
        f'[limits]\n"joint@1[length=2048]" = {{ min = 0.99 }}\n[[rules]]\nlength = "2*"\nlevel = "{level}"\n',
    ):
        policy.write_text(content)
        assert ended(["check", two, "--format", "json", "--policy", str(policy)]) == code, content
        assert status in rules(capsys).values()


def test_a_limit_on_too_few_prompts_of_a_category_says_how_many_of_it_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Recipe(categories={f"prompt-{number:02}": "code" if number < 3 else "maths" for number in range(16)})
    run = str(write_run(tmp_path / "run", recipe))
    assert ended(["check", run, "--min", "acceptance-length[category=code]=2"]) == 5
    assert "at least 5 more prompts of this category are needed" in " ".join(capsys.readouterr().out.split())
