"""The report on a terminal: the verdict and its cost first, then the evidence by depth, the findings, what to do, and where to go on.

Plain text on purpose where it is not a terminal: 100 columns, no colour. Rich's markup is never interpreted: all text comes as `Text`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from driftcli.domain import Severity, Verdict
from driftcli.mitigations.trials import Outcome
from driftcli.printable import printable
from driftcli.report import evidence, remedies, speeds
from driftcli.report.console import hanging
from driftcli.traces.reader import Run

COLOURS: dict[Severity, str] = {
    "healthy": "green",
    "mild": "yellow",
    "moderate": "dark_orange",
    "severe": "red",
    "miswired": "magenta",
    "inconclusive": "cyan",
    "not applicable": "cyan",
}
LONGEST_BESIDE = 24  # characters of a banner that leave the headline room beside it (chosen by us)
STANDING: dict[str, str] = {"helps": "green", "costs": "red"}  # what else there is, plain


def render(run: Run, verdict: Verdict) -> RenderableType:
    """The first screen."""
    heading, attention = evidence.attention_curves(run)
    blocks: list[list[RenderableType]] = [
        [Text(evidence.pair_line(run), style="bold"), Text(evidence.facts_line(run), style="dim")],
        [*_verdict(verdict), *map(Text, evidence.length_lines(run))],
        [_by_depth(run, "depth", [curve.row(run) for curve in evidence.main_curves(run)])],
        [Text(heading, style="dim"), _by_depth(run, "depth", [curve.row(run) for curve in attention])],
        _conditions(run),
        [_findings(verdict)],
        _to_do(verdict, speeds.shorter_draft(run)),
        [hanging(line) for line in [*evidence.axis_lines(verdict), *evidence.remarks(run)]],
        _remedies(run, verdict),
        [Text(line, style="dim", overflow="fold") for line in evidence.pointers(run, verdict)],
    ]
    parts: list[RenderableType] = []
    for block in blocks:
        parts += [*([Text()] if parts and block else []), *block]
    return Group(*parts)


def _verdict(verdict: Verdict) -> list[RenderableType]:
    """The banner with the headline beside it, or below where what is sure and what is likely take a line of their own."""
    banner = Text(evidence.banner(verdict), style=f"bold {COLOURS[verdict.severity]}", no_wrap=True)
    below = [hanging(printable(verdict.open))] if verdict.open else []
    if len(banner) > LONGEST_BESIDE:
        return [banner, Text(printable(verdict.headline)), *below]
    shown = Table.grid(padding=(0, 3, 0, 0))
    shown.add_row(banner, Text(printable(verdict.headline)))
    return [shown, *below]


def _by_depth(run: Run, corner: str, rows: Sequence[evidence.Row]) -> RenderableType:
    """Lines by depth; on a narrow terminal the remarks wrap, never the numbers."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", pad_edge=False)
    table.add_column(corner, no_wrap=True, min_width=18)
    for depth in evidence.shown_depths(run.spec.depth):
        table.add_column(str(depth), justify="right", no_wrap=True, min_width=5)
    table.add_column("", style="dim")
    for row in rows:
        table.add_row(row.name, *row.cells, row.remark)
    return table


def _conditions(run: Run) -> list[RenderableType]:
    rows = evidence.condition_rows(run)
    if not rows:
        return []
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold", pad_edge=False)
    for head in ("CONDITIONS", "", evidence.length_name(run)):
        table.add_column(head, no_wrap=True)
    table.add_column("accepted drafts, of the baseline's")
    for probe, own in groupby(rows, key=itemgetter(0)):
        for number, (_, *cells) in enumerate(own):
            table.add_row("" if number else probe, *cells)
    return [table]


def _findings(verdict: Verdict) -> RenderableType:
    if not verdict.findings:
        return Text("No findings.", style="bold")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    table.add_column("FINDINGS", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("")
    for finding in verdict.findings:
        table.add_row(
            finding.code, Text(evidence.grade(finding), style=COLOURS[finding.severity]), Text(printable(finding.claim), overflow="fold")
        )
    return table


def _remedies(run: Run, verdict: Verdict) -> list[RenderableType]:
    found, by_length = remedies.tried(run), speeds.speed_rows(run)
    if not found and not by_length:
        return []
    parts: list[RenderableType] = [_trials(run, found), Text(remedies.heading(run), style="dim")] if found else []
    if answer := remedies.answer(run, verdict, found):
        parts.append(Text(answer, style="bold"))
    if by_length:
        parts += [Text(), _by_depth(run, "DRAFT LENGTH", by_length), *map(hanging, speeds.payoff_lines(run))]
    for head, lines in remedies.further_parts(run, verdict, found):
        parts += [Text(), Text(head.upper(), style="bold"), *map(hanging, lines)]
    return parts


def _trials(run: Run, found: Sequence[Outcome]) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    table.add_column("MITIGATIONS", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("")
    table.add_column("", no_wrap=True)
    for state, name, words, gain in remedies.remedy_rows(run, found):
        table.add_row(name, Text(state, style=STANDING.get(state, "")), words, gain)
    return table


def _to_do(verdict: Verdict, shorter_draft: str) -> list[RenderableType]:
    advice = evidence.to_do(verdict, shorter_draft).items()
    if not advice:
        return []
    return [Text("WHAT TO DO", style="bold"), *(hanging(f"{fix}  ({', '.join(codes)})") for fix, codes in advice)]
