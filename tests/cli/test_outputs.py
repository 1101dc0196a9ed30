from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

import pytest

from driftcli.cli.outputs import SUMMARY, Output, deliver, outputs_asked
from driftcli.errors import MachineError, UsageError
from driftcli.report.choices import OutputKind
from driftcli.report.outputs import markdown
from driftcli.report.outputs.kinds import rendered
from tests.report.outputs.outcomes import ALL


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(SUMMARY, raising=False)


def test_each_word_asks_for_one_output_and_none_for_none() -> None:
    words = ["kind=junit,path=a.xml", "kind=sarif,path=b,c=d.sarif", "kind=github", "kind=github,path=notes.txt"]
    assert outputs_asked(words, "terminal") == (
        Output("junit", Path("a.xml")),
        Output("sarif", Path("b,c=d.sarif")),
        Output("github", None),
        Output("github", Path("notes.txt")),
    )
    assert outputs_asked(None, "json") == ()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("junit=report.xml", "did you mean kind=junit,path=report.xml?"),
        ("junit", "expected kind=KIND,path=FILE"),
        ("", "expected kind=KIND,path=FILE"),
        ("path=a.xml,kind=junit", "expected kind=KIND,path=FILE"),
        ("kind=junit, path=a.xml", "expected kind=KIND,path=FILE"),
        ("kind=junit,path=", "expected kind=KIND,path=FILE"),
        ("kind=junitt,path=a.xml", "no kind 'junitt'; did you mean junit?"),
        ("kind=,path=a.xml", "expected one of json, junit, sarif, github, markdown, html"),
        ("kind=JUNIT,path=a.xml", "did you mean junit?"),
        ("kind=junit", "only github goes to stdout; name a file"),
        ("kind=junit,path=no/such/a.xml", "there is no folder no/such; make it first"),
        ("kind=junit,path=.", "names no file"),
        ("kind=junit,path=-", "names no file"),
        ("kind=junit,path=a/..", "names no file"),
        ("kind=junit,path=folder", "is there and no plain file"),
        ("kind=junit,path=/dev/null", "no plain file"),
        ("kind=junit,path=a\0b", "names no file"),
        ("kind=json,path=run/run.json", "run is the folder of a run"),
        ("kind=json,path=" + "x" * 300, "no file can be there"),
    ],
)
def test_a_word_that_asks_for_nothing_that_can_be_is_refused_in_a_sentence(word: str, said: str) -> None:
    Path("folder").mkdir()
    Path("run").mkdir()
    Path("run/run.json").touch()
    with pytest.raises(UsageError) as refused:
        outputs_asked([word], "terminal")
    assert said in str(refused.value)
    assert refused.value.exit_code == 2


def test_two_outputs_to_one_place_are_refused_however_it_is_named() -> None:
    Path("folder").mkdir()
    Path("link").symlink_to("folder")
    for words in (
        ["kind=junit,path=folder/a", "kind=sarif,path=link/../folder/a"],
        ["kind=json,path=./a", "kind=html,path=a"],
        ["kind=github"] * 2,
    ):
        with pytest.raises(UsageError, match="asked for twice"):
            outputs_asked(words, "terminal")


@pytest.mark.parametrize("format", ["json", "markdown"])
def test_annotations_do_not_spoil_a_report_that_something_reads(format: str) -> None:
    with pytest.raises(UsageError, match=f"so does --format {format}"):
        outputs_asked(["kind=github"], format)
    assert outputs_asked(["kind=github,path=notes"], format)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_refused() -> None:
    Path("folder").mkdir(mode=0o555)
    with pytest.raises(UsageError, match="cannot be written to"):
        outputs_asked(["kind=junit,path=folder/a"], "terminal")


def test_every_kind_lands_in_its_file_and_nothing_is_left_beside(capsys: pytest.CaptureFixture[str]) -> None:
    deliver(outputs_asked([f"kind={kind},path=out.{kind}" for kind in get_args(OutputKind)], "json"), ALL, {"json": lambda: "own"})
    assert {path.name for path in Path().iterdir()} == {f"out.{kind}" for kind in get_args(OutputKind)}
    assert Path("out.json").read_text(encoding="utf-8") == "own\n"
    assert Path("out.junit").read_text(encoding="utf-8") == rendered("junit", ALL, {}) + "\n"
    assert capsys.readouterr() == ("", "")


def test_a_file_of_an_earlier_run_is_replaced() -> None:
    Path("a").write_text("before" * 10_000)
    deliver(outputs_asked(["kind=junit,path=a"], "terminal"), ALL, {})
    assert Path("a").read_text(encoding="utf-8") == rendered("junit", ALL, {}) + "\n"


def test_a_link_stays_one_and_what_it_leads_to_is_written() -> None:
    Path("real").touch()
    Path("link").symlink_to("real")
    deliver(outputs_asked(["kind=junit,path=link"], "terminal"), ALL, {})
    assert Path("link").is_symlink()
    assert Path("real").read_text(encoding="utf-8") == rendered("junit", ALL, {}) + "\n"


def test_annotations_go_to_stdout_and_the_summary_behind_what_the_step_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("summary").write_text("before\n")
    monkeypatch.setenv(SUMMARY, "summary")
    deliver(outputs_asked(["kind=github"], "terminal"), ALL, {})
    assert capsys.readouterr().out == rendered("github", ALL, {}) + "\n"
    assert Path("summary").read_text(encoding="utf-8") == f"before\n{markdown.render(ALL)}\n"


def test_a_file_that_cannot_be_written_after_all_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("folder").mkdir()
    asked = outputs_asked(["kind=junit,path=folder/a"], "terminal")
    Path("folder").rmdir()
    with pytest.raises(MachineError, match=r"folder/a: cannot be written"):
        deliver(asked, ALL, {})
    monkeypatch.setenv(SUMMARY, "no/such")
    with pytest.raises(MachineError, match=SUMMARY):
        deliver(outputs_asked(["kind=github"], "terminal"), ALL, {})
