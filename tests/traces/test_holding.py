from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from driftcli.errors import RunError
from driftcli.traces.holding import held
from driftcli.traces.layout import LOCK_FILE

HOLDING = "import sys, time; from pathlib import Path; from driftcli.traces.holding import held\nwith held(Path(sys.argv[1])):\n print('held', flush=True)\n time.sleep(60)"


def holder(path: Path) -> subprocess.Popen[str]:
    """Another process that holds a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDING, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_the_second_process_on_a_folder_is_told_who_holds_it_until_that_one_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "r"
    process = holder(path)
    try:
        with pytest.raises(RunError, match=rf"another driftcli is writing .*process {process.pid} on {socket.gethostname()}"), held(path):
            pass
        assert (path / LOCK_FILE).exists()
    finally:
        process.kill()
        process.wait()
    with held(path):
        assert str(os.getpid()) in (path / LOCK_FILE).read_text()


def test_a_folder_that_nothing_was_written_to_goes_again_and_any_other_stays(tmp_path: Path) -> None:
    with held(tmp_path / "a" / "b"):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with held(tmp_path / "mine"):
        pass
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]
    with held(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "run.json").touch()
    assert [path.name for path in (tmp_path / "a").rglob("*")] == ["b", "run.json"]


@pytest.mark.parametrize("name", ["x" * 300, "a-file/r", "a-file"])
def test_a_folder_that_cannot_be_made_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("mine")
    with pytest.raises(RunError, match=r"--out$"), held(tmp_path / name):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a-file"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EMFILE])
def test_a_folder_that_cannot_be_written_to_is_refused_in_a_sentence(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(RunError, match=rf"cannot be written to \({os.strerror(number)}\)"), held(tmp_path):
        pass


def test_where_a_file_system_knows_no_locks_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with held(tmp_path / "r"):
        assert (tmp_path / "r" / LOCK_FILE).exists()
