from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

from driftcli.cli import main as main_module
from driftcli.cli.main import main
from driftcli.errors import DriftError, FormatError, UsageError


def ended(arguments: list[str]) -> int | str | None:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    return exit.value.code


def as_a_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from driftcli.cli.main import main; main()"
    plain = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, env=plain, timeout=120)


def test_the_help_of_every_command_reads_as_agreed(golden: Callable[[str, str], None]) -> None:
    shown = [
        as_a_process(*command, "--help").stdout
        for command in (
            (),
            ("diagnose",),
            ("plan",),
            ("report",),
            ("check",),
            ("scan",),
            ("server",),
            ("costs",),
            ("explain",),
            ("probes",),
        )
    ]
    lines = "\n".join(shown).replace("Usage: -c ", "Usage: driftcli ").split("\n")
    golden("help.txt", "\n".join(line.rstrip() for line in lines))


def test_without_a_command_the_help_is_shown_and_the_exit_is_a_usage_error() -> None:
    ran = as_a_process()
    assert ran.returncode == 2
    assert "diagnose" in ran.stdout + ran.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-such-option"],
        ["no-such-command"],
        ["report"],
        ["report", "x", "--format", "sarif"],
        ["diagnose", "--depth", "0"],
        ["diagnose", "--drafter", "x"],
    ],
)
def test_a_wrong_command_line_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(arguments) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("error", [FormatError, UsageError, DriftError])
def test_a_refusal_is_one_line_on_stderr_and_its_exit_code(
    error: type[DriftError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: object) -> None:
        raise error("here: saw a\x1b[31m\nb, expected c; do d")

    monkeypatch.setattr(main_module, "app", refuse)
    assert ended(["report", "x"]) == error.exit_code
    assert capsys.readouterr() == ("", "error: here: saw a\\x1b[31m\\nb, expected c; do d\n")


def test_an_interrupt_ends_with_130_and_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    measuring = ModuleType("driftcli.cli.diagnosis")  # in place of the module that brings torch
    measuring.Request, measuring.diagnose_pair = (lambda *_: None), interrupted  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, measuring.__name__, measuring)
    assert ended(["diagnose", "--target", "a", "--drafter", "b"]) == 130
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err == "interrupted; the same command starts again\n"


def test_a_target_alone_that_carries_no_head_is_a_usage_error(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["diagnose", "--target", str(models / "target")]) == 2
    assert "carries no MTP head that could draft" in capsys.readouterr().err


def test_a_folder_that_holds_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["report", str(tmp_path)]) == 3
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: no run.json")


def test_the_version_is_that_of_the_package_and_loads_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert not ended.value.code
    assert capsys.readouterr().out == f"driftcli {metadata.version('driftcli')}\n"
