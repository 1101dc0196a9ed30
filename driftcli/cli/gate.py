"""How a command that judged a run ends: the report on stdout, what `--fail-on` came to on stderr, other outputs, and the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, NoReturn

import typer

from driftcli.cli.outputs import Output, deliver
from driftcli.cli.page import Page, write_page
from driftcli.domain import Verdict
from driftcli.printable import printable
from driftcli.report.choices import FailOn
from driftcli.report.formats import show
from driftcli.report.verdict import exit_code, gate_line
from driftcli.traces.reader import Run


@dataclass(frozen=True, slots=True)
class Ending:
    """How the person asked a command to end. page: where one goes; without it into the run's folder, over an earlier one."""

    command: Literal["diagnose", "report"]
    format: str
    full: bool
    fail_on: FailOn
    strict: bool
    outputs: Sequence[Output] = ()
    page: Page | None = None


def end(run: Run, verdict: Verdict, asked: Ending) -> NoReturn:
    """Print the report and, where a gate was asked for, its sentence; write the outputs; leave by the exit code of the verdict."""
    with suppress(BrokenPipeError):  # whoever reads the first lines only still gets the verdict's exit code
        if asked.format == "html":
            write_page(run, verdict, asked.page or Page(force=True))
        else:
            show(run, verdict, asked.format, full=asked.full)
    if line := gate_line(verdict, asked.fail_on, strict=asked.strict):
        typer.echo(printable(line), err=True)
    if asked.outputs:
        from driftcli.gate.verdict import outcome_of
        from driftcli.report.outputs.kinds import of_report

        outcome = outcome_of(asked.command, run, verdict, asked.fail_on, strict=asked.strict)
        deliver(asked.outputs, outcome, of_report(run, verdict, outcome))
    raise typer.Exit(exit_code(verdict, asked.fail_on, strict=asked.strict))
