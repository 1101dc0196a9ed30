"""The output formats, once: `--format` offers what this table holds (`choices.OutputFormat`, a test)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import TextIOWrapper

from rich.console import Console

from driftcli.domain import Verdict
from driftcli.report import json, markdown, terminal
from driftcli.report.choices import OutputFormat
from driftcli.traces.reader import Run

RENDERERS: dict[OutputFormat, Callable[[Run, Verdict], str]] = {"terminal": terminal.text, "json": json.render, "markdown": markdown.render}


def show(run: Run, verdict: Verdict, format: OutputFormat) -> None:
    """Print the report on stdout, with colour and the terminal's own width only on a terminal; what stdout cannot encode is escaped."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if format == "terminal" and sys.stdout.isatty():
        Console(highlight=False, markup=False, emoji=False).print(terminal.render(run, verdict))
    else:
        sys.stdout.write(RENDERERS[format](run, verdict) + "\n")
