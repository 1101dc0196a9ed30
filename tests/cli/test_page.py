from __future__ import annotations

import sys
import webbrowser
from pathlib import Path

import pytest

from driftcli.cli.main import main
from tests.report.synthetic import DRIFTING, Recipe, write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", Recipe(DRIFTING, prompts=tuple("abcdefgh"), anchors=10))


def ended(*arguments: object, piped: bool = False) -> int | str | None:
    with pytest.raises(SystemExit) as exit, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.stdout, "isatty", lambda: not piped)
        main(["report", *map(str, arguments)])
    return exit.value.code


def test_on_a_terminal_the_page_goes_into_the_run_folder_and_its_path_to_stderr(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(run, "--format", "html") == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"page: {run / 'report.html'}")
    assert (run / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_pipe_and_a_dash_get_the_page_and_no_file_is_written(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(run, "--format", "html", "--out", "-") == 0
    named = capsys.readouterr().out
    assert ended(run, "--format", "html", piped=True) == 0
    assert capsys.readouterr().out == named
    assert named.endswith("</html>\n")
    assert not (run / "report.html").exists()


def test_a_file_that_differs_stays_without_force_and_the_same_page_is_no_conflict(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = run.parent / "page.html"
    assert ended(run, "--format", "html", "--out", page) == 0
    assert ended(run, "--format", "html", "--out", page) == 0
    page.write_text("mine", encoding="utf-8")
    assert ended(run, "--format", "html", "--out", page) == 3
    assert "differs from this run's page; --force" in capsys.readouterr().err
    assert page.read_text(encoding="utf-8") == "mine"
    assert ended(run, "--format", "html", "--out", page, "--force") == 0
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_open_writes_the_page_and_shows_it(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shown: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: bool(shown.append(address)))
    assert ended(run, "--open") == 0
    assert shown == [(run / "report.html").resolve().as_uri()]
    assert "no browser could be started here" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--out", "x"], ["--force"], ["--all-prompts"], ["--format", "json", "--open"], ["--open", "--out", "-"]]
)
def test_what_only_a_page_has_is_refused_elsewhere(run: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(run, *arguments) == 2
    assert capsys.readouterr().out == ""


def test_a_page_that_cannot_be_written_is_a_sentence(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(run, "--format", "html", "--out", run.parent / "nowhere" / "page.html") == 3
    assert "the page cannot be written" in capsys.readouterr().err


def test_the_gate_holds_beside_the_page(run: Path) -> None:
    assert ended(run, "--format", "html", "--fail-on", "mild") == 4


def test_the_terminal_report_names_the_page_to_whoever_sits_before_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(run) == 0
    shown = capsys.readouterr().out
    assert "as a page:    driftcli report" in shown
    assert "--open" in shown
