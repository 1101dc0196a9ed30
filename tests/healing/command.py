"""A command of the tool, run in this process."""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pytest

from driftcli.cli.main import main


class Ended(NamedTuple):
    """How a command ended, and what it printed."""

    exit_code: int
    stdout: str
    stderr: str


def driftcli(*words: object) -> Ended:
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([*map(str, words)])
    return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def diagnosed(out: Path, *words: object) -> Path:
    """The folder of a run that was diagnosed without an error."""
    ended = driftcli("diagnose", *words, "--out", out)
    assert ended.exit_code == 0, ended.stdout + ended.stderr
    return out
