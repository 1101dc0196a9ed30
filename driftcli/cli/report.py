"""`driftcli report RUN`: judge a run that was measured before. Imports no torch, and what reads Parquet only when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from driftcli.cli.formats import FormatChoice
from driftcli.cli.outputs import OutputChoice, outputs_asked
from driftcli.report.choices import ALL_PROMPTS, FAILS, FULL, OPEN, PAGE_FORCE, PAGE_OUT, STRICT, FailOn


def report(
    run: Annotated[Path, typer.Argument(help="Run folder to read.")],
    format: FormatChoice = "terminal",
    fail_on: Annotated[FailOn, typer.Option(help=FAILS)] = "none",
    strict: Annotated[bool, typer.Option("--strict", help=STRICT)] = False,
    probe: Annotated[list[str] | None, typer.Option(help="A probe of your own that RUN was measured with, as package.module:NAME.")] = None,
    output: OutputChoice = None,
    full: Annotated[bool, typer.Option("--full", help=FULL)] = False,
    out: Annotated[Path | None, typer.Option(help=PAGE_OUT)] = None,
    force: Annotated[bool, typer.Option("--force", help=PAGE_FORCE)] = False,
    opened: Annotated[bool, typer.Option("--open", help=OPEN)] = False,
    all_prompts: Annotated[bool, typer.Option("--all-prompts", help=ALL_PROMPTS)] = False,
) -> None:
    """Print what the probes found in RUN. Of probes that are not driftcli's own only those are run that --probe names."""
    from driftcli.cli.battery import battery_of
    from driftcli.cli.gate import Ending, end
    from driftcli.cli.page import Page, asked_page
    from driftcli.cli.runs import opened_run
    from driftcli.report.verdict import judge

    format, page = asked_page(format, Page(out, force, opened, all_prompts))
    asked = Ending("report", format, full, fail_on, strict, outputs_asked(output, format), page)
    found = opened_run(run)
    end(found, judge(found, battery_of(found, probe or [])), asked)
