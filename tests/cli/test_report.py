from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from driftcli.cli.battery import load_battery
from driftcli.cli.main import main
from driftcli.report.json import render
from driftcli.report.verdict import judge
from driftcli.traces.reader import read_run
from tests.report.synthetic import DRIFTING, WITHOUT_STATE, Recipe, write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a drifting run and one that drift does not apply to."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "severe", Recipe(DRIFTING))
    write_run(folder / "not-applicable", Recipe(WITHOUT_STATE))
    return folder


def ended(arguments: list[str]) -> int | str | None:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    return exit.value.code


@pytest.mark.parametrize(
    ("run", "fail_on", "code"),
    [("severe", "none", 0), ("severe", "mild", 4), ("severe", "severe", 4), ("not-applicable", "none", 0), ("not-applicable", "severe", 5)],
)
def test_the_exit_code_follows_the_verdict_that_is_printed(
    runs: Path, run: str, fail_on: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(["report", str(runs / run), "--fail-on", fail_on, "--format", "json"]) == code
    printed = json.loads(capsys.readouterr().out)["verdict"]["severity"]
    assert printed == {"severe": "severe", "not-applicable": "not applicable"}[run]


def test_what_is_printed_is_the_report_of_the_run_alone(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended(["report", str(runs / "severe"), "--format", "json"])
    run = read_run(runs / "severe")
    assert capsys.readouterr() == (render(run, judge(run, load_battery(run.probe_names))) + "\n", "")


def test_a_run_is_reported_without_torch(runs: Path) -> None:
    code = (
        "import sys\nfrom driftcli.cli.main import main\n"
        f"try:\n    main(['report', {str(runs / 'severe')!r}])\n"
        "except SystemExit as ended:\n    assert not ended.code\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "SEVERE DRIFT" in ran.stdout


def test_outputs_carry_the_gate_and_the_report_that_is_printed(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = [f"--output=kind={kind},path=out.{kind}" for kind in ("json", "junit", "markdown")]
    assert ended(["report", str(runs / "severe"), "--fail-on", "mild", "--format", "json", *wanted]) == 4
    printed, written = json.loads(capsys.readouterr().out), json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert written.pop("outcome")["exit_code"] == 4
    assert written == printed
    (failure, *_) = ElementTree.parse("out.junit").iter("failure")
    assert "52% of the accuracy lost" in failure.attrib["message"]
    assert Path("out.markdown").read_text(encoding="utf-8").startswith("## SEVERE DRIFT")


def test_an_output_that_cannot_be_is_refused_before_the_run_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["report", "no-such-run", "--output", "junit=report.xml"]) == 2
    assert "did you mean kind=junit,path=report.xml?" in capsys.readouterr().err


def test_a_report_ends_without_looking_through_all_that_it_loaded(runs: Path) -> None:
    told = "import atexit, gc, sys; atexit.register(lambda: print(gc.get_freeze_count(), file=sys.stderr))"
    code = f"{told}; from driftcli.cli.main import main; main(['report', {str(runs / 'severe')!r}])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert int(ran.stderr) > 10_000
