"""`driftcli report RUN`: judge a run that was measured before. Imports no torch, and what reads Parquet only when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from driftcli.report.choices import FULL, STRICT, FailOn, OutputFormat


def report(
    run: Annotated[Path, typer.Argument(help="Run folder to read.")],
    format: Annotated[OutputFormat, typer.Option(help="How to print.")] = "terminal",
    fail_on: Annotated[
        FailOn, typer.Option(help="Exit 4 when the verdict is at this severity or above, 5 when it is inconclusive.")
    ] = "none",
    strict: Annotated[bool, typer.Option("--strict", help=STRICT)] = False,
    full: Annotated[bool, typer.Option("--full", help=FULL)] = False,
) -> None:
    """Print what the probes found in RUN."""
    from driftcli.cli.battery import load_battery
    from driftcli.cli.gate import end
    from driftcli.report.verdict import judge
    from driftcli.traces.reader import read_run

    found = read_run(run)
    end(found, judge(found, load_battery(found.probe_names)), format, fail_on, strict=strict, full=full)
