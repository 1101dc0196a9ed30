"""The output formats, once: `--format` offers what this table holds (`choices.OutputFormat`, a test)."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import RenderableType

from driftcli.domain import Verdict
from driftcli.report import json, markdown, terminal
from driftcli.report.choices import OutputFormat
from driftcli.report.console import put
from driftcli.traces.reader import Run

RENDERERS: dict[OutputFormat, Callable[[Run, Verdict], str | RenderableType]] = {
    "terminal": terminal.page,
    "json": json.render,
    "markdown": markdown.render,
}


def show(run: Run, verdict: Verdict, format: OutputFormat, *, full: bool) -> None:
    """Print the report on stdout. full: on a terminal all of it, as the other formats always have it."""
    render = terminal.whole if full and format == "terminal" else RENDERERS[format]
    put(render(run, verdict))
