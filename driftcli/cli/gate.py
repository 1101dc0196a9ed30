"""How a command that judged a run ends: the report on stdout, what `--fail-on` came to on stderr, and the exit code."""

from __future__ import annotations

from contextlib import suppress
from typing import NoReturn

import typer

from driftcli.domain import Verdict
from driftcli.printable import printable
from driftcli.report.choices import FailOn
from driftcli.report.formats import show
from driftcli.report.verdict import exit_code, gate_line
from driftcli.traces.reader import Run


def end(run: Run, verdict: Verdict, format: str, fail_on: FailOn, *, strict: bool, full: bool) -> NoReturn:
    """Print the report and, where a gate was asked for, its sentence; then leave by the exit code of the verdict."""
    with suppress(BrokenPipeError):  # whoever reads the first lines only still gets the verdict's exit code
        show(run, verdict, format, full=full)
    if line := gate_line(verdict, fail_on, strict=strict):
        typer.echo(printable(line), err=True)
    raise typer.Exit(exit_code(verdict, fail_on, strict=strict))
