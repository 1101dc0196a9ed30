"""From run folders to a comparison that is printed, and the exit code that its gate comes to."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NoReturn

import typer
from rich.console import RenderableType

from driftcli.cli.outputs import Output, deliver
from driftcli.cli.runs import opened_run
from driftcli.comparison import answers, telling
from driftcli.comparison.gate import outcome_of
from driftcli.comparison.names import names
from driftcli.comparison.pairwise import Comparison, compare
from driftcli.comparison.ranking import Ranking, rank
from driftcli.comparison.words import why_no_band
from driftcli.errors import UsageError
from driftcli.outcome import FAILED, UNDECIDED, Outcome
from driftcli.printable import printable
from driftcli.report import comparison, ranking
from driftcli.report.choices import CompareFailOn, CompareFormat
from driftcli.report.console import put
from driftcli.report.outputs import html


def compared(folders: Sequence[Path], band: float, *, force: bool) -> Comparison | Ranking:
    """Two runs in these folders held against one another, or more of them ranked; raises UsageError for what cannot be asked for."""
    if len(folders) < 2:
        raise UsageError("compare: one run was named, expected two or more; name the run to compare with first")
    if why := why_no_band(band):
        raise UsageError(f"--band: {why}")
    runs = [opened_run(folder) for folder in folders]
    called = names(runs)
    if len(runs) > 2:
        return rank(runs, called, band, force=force)
    return compare((runs[0], runs[1]), (called[0], called[1]), band, force=force)


def end(
    found: Comparison | Ranking, format: CompareFormat, fail_on: CompareFailOn, outputs: Sequence[Output] = (), *, strict: bool
) -> NoReturn:
    """Print it, say on stderr what the gate came to where one was asked for, write the outputs, and leave by its exit code."""
    with suppress(BrokenPipeError):  # whoever reads the first lines only still gets the exit code
        put(shown(found, format))
    outcome = outcome_of(found, gated=fail_on != "none", strict=strict)
    deliver(outputs, outcome, {kind: lambda kind=kind: _other(found, outcome, kind) for kind in ("json", "markdown", "html")})  # type: ignore[misc]
    if fail_on == "none":
        raise typer.Exit
    what = {0: "passed", FAILED: "failed", UNDECIDED: "undecided"}[outcome.exit_code]
    typer.echo(printable(f"--fail-on {fail_on}{' --strict' * strict}: {what}, {outcome.headline}"), err=True)
    raise typer.Exit(outcome.exit_code)


def _other(found: Comparison | Ranking, outcome: Outcome, kind: Literal["json", "markdown", "html"]) -> str:
    """What a comparison shows better than its outcome alone."""
    if kind != "html":
        return str(shown(found, kind))
    tables = ranking.tables(found) if isinstance(found, Ranking) else comparison.tables(found)
    told = answers if isinstance(found, Ranking) else telling
    return html.render(outcome, told.facts(found), tables, told.remarks(found))


def shown(found: Comparison | Ranking, format: CompareFormat) -> str | RenderableType:
    """A comparison or a ranking in one of the formats; text but for a terminal."""
    return ranking.RENDERERS[format](found) if isinstance(found, Ranking) else comparison.RENDERERS[format](found)
