"""The output formats, once: what `--format` offers is what this table holds."""

from __future__ import annotations

import sys
from typing import Literal

from rich.console import Console

from driftcli.domain import Verdict
from driftcli.report import json, terminal
from driftcli.traces.reader import Run

OutputFormat = Literal["terminal", "json"]
PLAIN_WIDTH = 100  # columns when stdout is no terminal


def show(run: Run, verdict: Verdict, format: OutputFormat) -> None:
    """Print the report on stdout; nothing animated, no colour and a fixed width when it is not a terminal."""
    if format == "json":
        sys.stdout.write(json.render(run, verdict) + "\n")
        return
    tty = sys.stdout.isatty()
    console = Console(file=sys.stdout, width=None if tty else PLAIN_WIDTH, highlight=False, markup=False, emoji=False)
    console.print(terminal.render(run, verdict))
