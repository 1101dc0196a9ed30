from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from lxml import html

from driftcli.cli.main import main
from tests.comparison.runs import written
from tests.report.synthetic import DRIFTING, Recipe, write_run

BASE = Recipe()
FEW = replace(BASE, prompts=BASE.prompts[:3])
HOSTILE = "evil\x1b[31m\n<b>|`@someone`"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name, recipe in {
        "base": BASE,
        "again": BASE,
        "worse": Recipe(DRIFTING),
        "few": FEW,
        "few-worse": replace(FEW, life=DRIFTING),
        "near": replace(BASE, seed=8),
        "other-target": replace(BASE, target="Another"),
    }.items():
        written(folder, recipe, name)
    write_run(folder / "hostile", replace(BASE, drafter=HOSTILE, target=HOSTILE))
    return folder


def ended(runs: Path, *words: str) -> int | str | None:
    with pytest.raises(SystemExit) as exit:
        main(["compare", *(str(runs / word) if (runs / word).is_dir() else word for word in words)])
    return exit.value.code


@pytest.mark.parametrize(("second", "code"), [("worse", 4), ("again", 0), ("base", 0)])
def test_the_gate_follows_the_word_that_is_printed(runs: Path, second: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(runs, "base", second, "--fail-on", "regressed", "--format", "json") == code
    said = capsys.readouterr()
    assert json.loads(said.out)["word"] == {4: "regressed", 0: "equal"}[code]
    assert said.err.startswith(f"--fail-on regressed: {'failed, REGRESSED' if code else 'passed, EQUAL'}: ")
    assert ended(runs, "base", second) == 0  # without a gate nothing fails


@pytest.mark.parametrize(("gate", "said"), [((), "exit code 0"), (("--fail-on", "regressed"), "exit code 4")])
def test_its_page_has_the_tables_and_the_very_exit_code(runs: Path, tmp_path: Path, gate: tuple[str, ...], said: str) -> None:
    for asked, row in ((("base", "worse"), "acceptance length"), (("base", "worse", "again"), "plain decoding")):
        page = tmp_path / f"{len(asked)}.html"
        assert ended(runs, *asked, *gate, "--output", f"kind=html,path={page}") == int(said[-1])
        shown = html.document_fromstring(page.read_text())
        assert said in shown.find(".//p").text_content()
        assert any(row in line.text_content() for table in shown.iter("table") for line in table.iter("tr"))
        assert any("band: 2%" in line.text_content() or "places are shared" in line.text_content() for line in shown.iter("li"))


def test_three_prompts_cannot_tell_which_a_gate_calls_undecided(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(runs, "few", "few-worse", "--fail-on", "regressed") == 5
    assert "at least 5 more prompts would tell" in " ".join(capsys.readouterr().out.split())


def test_strict_takes_no_difference_seen_for_undecided(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended(runs, "base", "near", "--format", "json", "--band", "0.1")
    assert json.loads(capsys.readouterr().out)["word"] == "no difference seen"
    assert ended(runs, "base", "near", "--fail-on", "regressed", "--band", "0.1") == 0
    assert ended(runs, "base", "near", "--fail-on", "regressed", "--band", "0.1", "--strict") == 5


def test_runs_of_two_targets_are_refused_in_one_sentence_and_forced_ones_say_so(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(runs, "base", "other-target") == 3
    refused = capsys.readouterr()
    assert refused.out == ""
    assert "not comparable, they differ in target (Some-Target-8B 0000000000000000 / Another 0000000000000000)" in refused.err
    assert refused.err.count("\n") == 1
    assert ended(runs, "base", "other-target", "--force") == 0
    assert "compared all the same (--force), though the runs differ in target" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("words", "said"), [(["base"], "one run was named"), (["base", "again", "--band", "2"], "0.02 stands for 2%")])
def test_what_cannot_be_asked_for_is_said(runs: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(runs, *words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("format", ["terminal", "json", "markdown"])
def test_names_from_outside_drive_nothing_and_the_same_runs_give_the_same_bytes(
    runs: Path, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ended(runs, "hostile", "base", "--force", "--format", format)
    first = capsys.readouterr().out
    ended(runs, "hostile", "base", "--force", "--format", format)
    assert capsys.readouterr().out == first
    assert "\x1b" not in first
    if format == "markdown":
        assert "<b>" not in first.replace("\\<b\\>", "")
        assert "@someone" not in first
