"""From a server held against a run to what is printed and written, and the exit code that it comes to."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import typer

from driftcli.cli.outputs import Output, deliver
from driftcli.report.choices import FailOn, ScanFormat
from driftcli.report.console import put
from driftcli.served.shown import render, render_json
from driftcli.served.verdict import ServedVerdict


def end(found: ServedVerdict, format: ScanFormat, fail_on: FailOn, outputs: Sequence[Output] = ()) -> NoReturn:
    """Print the verdict, write the outputs, and leave by its exit code."""
    outcome = found.outcome(fail_on)
    with suppress(BrokenPipeError):  # whoever reads the first lines only still gets the exit code
        put(render_json(found, outcome) if format == "json" else render(found))
    deliver(outputs, outcome, {"json": lambda: render_json(found, outcome)})
    raise typer.Exit(outcome.exit_code)
