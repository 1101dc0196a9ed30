"""The command on runs without a model; what a gate is for, the whole story on runs of a trained head, stands in `test_check_story`."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from driftcli.cli import checking
from tests.cli.test_report import ended
from tests.report.synthetic import DRIFTING, Recipe, write_run


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
