from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from driftcli.cli import main as main_module
from driftcli.cli.main import main
from driftcli.cli.net import Resumable
from driftcli.errors import Stopped
from tests.report.synthetic import DRIFTING, Recipe, write_run


def ended(arguments: list[str]) -> int | str | None:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    return exit.value.code


def failing(error: BaseException) -> Callable[..., None]:
    def app(**_: object) -> None:
        raise error

    return app


def panic() -> BaseException:
    """As the core of a library written in Rust raises it, by class name alone."""
    kind = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})
    return kind("index out of bounds:\n the len is 0")


MACHINE = {
    "full disk": (OSError(errno.ENOSPC, "No space left on device", "runs/x/run.json"), "runs/x/run.json: No space left on device"),
    "read-only": (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
    "too many files": (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
    "no permission": (PermissionError(errno.EACCES, "Permission denied", "x"), "x: Permission denied"),
    "an OSError of a library": (OSError("file is\ntruncated"), "error: file is truncated; what"),
    "an OSError that says nothing": (OSError(), "the system refused to read or write"),
    "memory": (MemoryError(), "no memory is left"),
    "Arrow": (pa.ArrowInvalid("Parquet magic bytes not found"), "Arrow could not go on (Parquet magic bytes"),
    "Arrow's memory": (pa.ArrowMemoryError("malloc failed"), "no memory is left (malloc failed)"),
    "a panic": (panic(), "a library's core gave up (index out of bounds: the len is 0)"),
    "torch is not there": (ModuleNotFoundError("No module named 'torch'", name="torch"), "a library cannot be loaded (No module named"),
    "torch does not load": (OSError("libtorch_cpu.so: cannot open shared object file"), "libtorch_cpu.so"),
    "a GPU's memory": (torch.OutOfMemoryError("tried to allocate 20 GiB"), "no memory is left (tried to allocate 20 GiB)"),
    "a CPU's memory": (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "no memory is left ("),
}


@pytest.mark.parametrize("kind", list(MACHINE))
def test_what_the_machine_throws_is_one_sentence_that_says_how_to_go_on(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error, said = MACHINE[kind]
    monkeypatch.setattr(main_module, "app", failing(error))
    assert ended(["report", "x"]) == 3
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("error: ") and said in err and "what was measured before is kept" in err and "repeat the command" in err


BUGS = [TypeError("x"), AssertionError("x"), KeyError("x"), RuntimeError("x"), ValueError("x"), ImportError("x", name="driftcli.domain")]


@pytest.mark.parametrize("error", BUGS, ids=lambda error: type(error).__name__)
def test_a_bug_of_ours_stays_a_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main_module, "app", failing(error))
    with pytest.raises(type(error)):
        main(["report", "x"])


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(KeyboardInterrupt(), 130, "interrupted"), (OSError(errno.ENOSPC, "No space left on device"), 3, "No space left on device")],
)
@pytest.mark.parametrize("words", [["diagnose", "--force"], ["diagnose", "--out", "it's/here", "--force"]])
def test_who_is_stopped_is_given_the_command_that_goes_on_in_the_same_folder(
    error: BaseException,
    code: int,
    said: str,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "a b"

    def app(**_: object) -> None:
        with Resumable(folder):
            raise error

    monkeypatch.setattr(main_module, "app", app)
    for begun, kept in ((False, "nothing is measured yet"), (True, "whole batches are kept")):
        folder.mkdir(exist_ok=True)
        if begun:
            (folder / "run.json").touch()
        assert ended(words) == code
        err = capsys.readouterr().err
        assert (said in err, kept in err, err.count("\n")) == (True, True, 1)
        line = "driftcli diagnose --out 'it'\"'\"'s/here'" if "--out" in words else f"driftcli diagnose --out '{folder}'"
        assert err.rstrip().endswith(f": {line}")


def test_a_bug_while_a_run_is_worked_on_is_no_stop() -> None:
    with pytest.raises(ZeroDivisionError), Resumable(Path("x")):
        raise ZeroDivisionError
    with pytest.raises(Stopped), Resumable(Path("x")):
        raise MemoryError


def piped(command: str, run: Path) -> subprocess.CompletedProcess[str]:
    """A shell line in which `driftcli` stands for this one; the exit code is that of driftcli."""
    program = f'{sys.executable} -c "from driftcli.cli.main import main; main()"'
    line = command.replace("driftcli", program).replace("RUN", str(run))
    environment = {**os.environ, "NO_COLOR": "1", "TERM": "dumb"}
    shell = ["bash", "-c", f'{line}; exit "${{PIPESTATUS[0]}}"']
    return subprocess.run(shell, capture_output=True, text=True, check=False, env=environment, timeout=120)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "r", Recipe(DRIFTING))


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("driftcli report RUN | true", 0),
        ("driftcli report RUN --format json | head -1", 0),
        ("driftcli report RUN --format json --fail-on mild 2>/dev/null | true", 4),
        ("driftcli explain | true", 0),
        ("driftcli probes | true", 0),
        ("driftcli --help | true", 0),
        ("driftcli report RUN/nowhere 2>&1 | true", 3),
        ("driftcli report RUN >&-", 0),
        ("driftcli report RUN/nowhere >&- 2>&-", 3),
    ],
)
def test_a_reader_who_leaves_early_ends_the_command_quietly(command: str, code: int, run: Path) -> None:
    ran = piped(command, run)
    assert ran.stderr == ""
    assert ran.returncode in (code, 141) if "report" not in command else ran.returncode == code


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_report_that_finds_no_room_is_one_sentence_and_no_success(run: Path) -> None:
    for format in ("terminal", "json"):
        ran = piped(f"driftcli report RUN --format {format} > /dev/full", run)
        assert (ran.returncode, ran.stderr.count("\n")) == (3, 1)
        assert ran.stderr.startswith("error: ") and "No space left on device" in ran.stderr
