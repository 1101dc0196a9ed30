from __future__ import annotations

import json
from inspect import signature
from pathlib import Path

import pytest

from driftcli.cli.diagnose import diagnose
from driftcli.cli.main import main
from driftcli.cli.plan import plan
from driftcli.report.plan import Machine, Plan, Range, render


def ended(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as exit:
        main(list(arguments))
    return exit.value.code


def test_a_plan_takes_whatever_a_diagnosis_takes() -> None:
    assert signature(plan) == signature(diagnose)


def test_a_plan_counts_what_the_pair_that_ships_would_be_asked_and_loads_no_weight(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a weight is read")

    monkeypatch.setattr("driftcli.families.eagle.loading.read_whole", refuse)
    monkeypatch.setattr("driftcli.target.language_model._model", refuse)
    assert not ended("plan", "--quick", "--limit", "8", "--threads", "1", "--format", "json")
    found = json.loads(capsys.readouterr().out)
    assert (found["used"], found["offered"], found["categories"]) == (8, 40, {"quote": 2, "pick": 2, "find": 2, "recall": 2})
    assert found["conditions"]["baseline"] == 1 and found["conditions"]["wiring"] == 16
    assert found["written"]["most"] % 128 == 0 and found["written"]["expected"] == found["written"]["most"] / 4
    assert found["memory"]["target"] == 4 * (found["weights"]["target"]["BF16"] // 2)
    assert 0 < found["seconds"]["expected"] <= found["seconds"]["most"]
    assert 0 < found["machine"]["core_share"] <= 1


def test_a_plan_is_no_wider_than_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert not ended("plan", "--quick", "--limit", "8", "--threads", "1")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert any(line.startswith(" " * 12) for line in lines)  # what goes on stands under what it goes on from


@pytest.mark.parametrize("before", range(60, 90))
def test_an_option_in_a_note_is_never_broken(before: int) -> None:
    one, machine = Range(1, 1), Machine("cpu", 1, 1.0, None, None)
    parts = dict.fromkeys(("peak", "program"), 1)
    note = f"{'x' * before} (--max-new-tokens)"
    shown = render(Plan("a", "b", "float32", 1, 1, {}, {}, 0, one, one, one, one, one, {}, parts, one, one, {}, machine, [note]))
    assert "(--max-new-tokens)" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--budget", "soon"], "--budget soon: no time that a run may take"),
        (["--format", "markdown"], "--format markdown: a plan is printed for a terminal or as json"),
        (["--budget", "1s"], "--budget of 1s: the baseline and the search for the wiring on 8 prompts, which always stay, take about"),
        (["--max-new-tokens", "4"], "--max-new-tokens 4: no reply would be long enough"),
    ],
)
def test_what_cannot_be_planned_is_a_usage_error(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("plan", "--threads", "1", *arguments) == 2
    assert said in capsys.readouterr().err


def test_what_is_set_for_diagnose_holds_for_its_plan_unless_set_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRIFTCLI_DIAGNOSE_SEED", "5")
    Path("drift.toml").write_text("[diagnose]\nlimit = 3\ndepth = 4\n[plan]\ndepth = 2\n")
    assert not ended("plan", "--show-config", "--format", "json")
    options = json.loads(capsys.readouterr().out)["options"]
    assert (options["limit"]["value"], options["depth"]["value"], options["seed"]["value"]) == (3, 2, 5)
    assert options["seed"]["source"] == "DRIFTCLI_DIAGNOSE_SEED"
