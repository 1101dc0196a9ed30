"""The exit code of a verdict, and the sentence that says what it came to."""

from __future__ import annotations

import typer

from driftcli.domain import Verdict
from driftcli.printable import printable
from driftcli.report.choices import FailOn
from driftcli.report.verdict import exit_code, gate_line


def gate(verdict: Verdict, fail_on: FailOn, *, strict: bool) -> int:
    """The exit code, its reason told on stderr where `--fail-on` asked for one."""
    if line := gate_line(verdict, fail_on, strict=strict):
        typer.echo(printable(line), err=True)
    return exit_code(verdict, fail_on, strict=strict)
