"""`driftcli compare RUN0 RUN1 ...`: hold runs against one another. Imports no torch, and what reads Parquet only when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from driftcli.cli.outputs import OutputChoice, outputs_asked
from driftcli.report.choices import BAND, REGRESSED, CompareFailOn, CompareFormat


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, the one to compare with first; three or more are ranked.")],
    band: Annotated[float, typer.Option(help=BAND)] = 0.02,
    force: Annotated[bool, typer.Option("--force", help="Compare runs that are not comparable, and say so.")] = False,
    format: Annotated[CompareFormat, typer.Option(help="How to print.")] = "terminal",
    fail_on: Annotated[CompareFailOn, typer.Option(help=REGRESSED)] = "none",
    output: OutputChoice = None,
    strict: Annotated[bool, typer.Option("--strict", help="Under --fail-on no difference seen is undecided too.")] = False,
) -> None:
    """Compare drafters on the prompts that their runs share: improved, regressed, equal, no difference seen, or cannot tell."""
    from driftcli.cli.comparison import compared, end

    outputs = outputs_asked(output, format)
    end(compared(runs, band, force=force), format, fail_on, outputs, strict=strict)
