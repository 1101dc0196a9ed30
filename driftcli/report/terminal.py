"""The report on a terminal: a page that answers at a glance, or all of it.

The page fits `LINES` lines: the verdict and its cost, the curves by depth, then as many findings, things to do and notes as there is room
for, with a count of what is left out. Everything is in the whole report, in JSON and in Markdown. Plain text on purpose where it is not a
terminal: 100 columns, no colour. Rich's markup is never interpreted: all text comes as `Text`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from operator import itemgetter

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from driftcli.domain import Finding, Severity, Verdict
from driftcli.mitigations.trials import Outcome
from driftcli.printable import printable
from driftcli.report import advice, evidence, notes, remedies, shift, speeds, survival
from driftcli.report.console import PLAIN_WIDTH
from driftcli.report.tables import by_depth, hanging, listed
from driftcli.traces.reader import Run

LINES = 50  # of the page where it is `PLAIN_WIDTH` wide, and as much text where it is narrower (chosen by us)
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
NARROW = 70  # columns below which nothing stands beside the banner (chosen by us)
STANDING: dict[str, str] = {"helps": "green", "costs": "red"}  # what else there is, plain
HEAD = 2  # lines that a part takes besides its items: a blank one and its heading
LONG = 3  # lines of a first item that are kept for it (chosen by us)
MORE = "... and {} more (--full)"


@dataclass(frozen=True)
class Part:
    """A heading and what stands below it, one by one."""

    head: str
    items: Sequence[RenderableType]


@dataclass(frozen=True)
class Shown:
    """A run's report, laid out when it is shown, for the width that there is. full: all of it, else what fits a page."""

    run: Run
    verdict: Verdict
    full: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        def height(shown: RenderableType) -> int:
            return len(console.render_lines(shown, options))

        width = options.max_width
        looking = options.is_terminal
        whole = self.full
        blocks = (
            _whole(self.run, self.verdict, width, looking=looking)
            if whole
            else _brief(self.run, self.verdict, width, height, looking=looking)
        )
        for number, block in enumerate(block for block in blocks if block):
            yield from [*([Text()] if number else []), *block]


def page(run: Run, verdict: Verdict) -> RenderableType:
    """The report as far as it fits a page."""
    return Shown(run, verdict, full=False)


def whole(run: Run, verdict: Verdict) -> RenderableType:
    """All of the report."""
    return Shown(run, verdict, full=True)


def _brief(run: Run, verdict: Verdict, width: int, height: Callable[[RenderableType], int], *, looking: bool) -> list[list[RenderableType]]:
    found = remedies.tried(run)
    head = [
        *_head(run, verdict, width),
        by_depth("depth", [curve.row(run) for curve in evidence.main_curves(run) if not curve.detail], width),
    ]
    tail = [_dim([*notes.pointers(run, verdict, brief=True, looking=looking), notes.last_line(verdict)])]
    used = sum(height(item) for block in (*head, *tail) for item in block) + len(head) + len(tail) - 1
    parts = [
        Part("FINDINGS", _findings(verdict.findings, width)),
        Part("WHAT TO DO", [hanging(line) for line in advice.advice_lines(run, verdict, found)]),
        Part(shift.HEADING.upper(), [hanging(line) for line in shift.shift_lines(run)]),
        Part("SPEED AND MITIGATIONS", [hanging(line) for line in remedies.summary(run, verdict, found)]),
        Part("WHAT TO TYPE", [hanging(line) for line in remedies.settable(remedies.typed(run, found))]),
        Part("ALSO", [hanging(line) for line in (notes.axis_states(verdict), *notes.remarks(run))]),
    ]
    return [*head, *_fitted([part for part in parts if part.items], LINES * max(1, PLAIN_WIDTH / width) - used, height), *tail]


def _fitted(parts: Sequence[Part], room: float, height: Callable[[RenderableType], int]) -> Iterator[list[RenderableType]]:
    """The parts in so many lines as far as they go; what one holds beyond its first item yields to the first items of those behind it."""
    heights = [[height(item) for item in part.items] for part in parts]
    for number, part in enumerate(parts):
        kept = sum(HEAD + min(own[0], LONG) + (len(own) > 1) for own in heights[number + 1 :])
        shown = _fitting(heights[number], room - kept - HEAD)
        rest = len(part.items) - shown
        more: list[RenderableType] = [Text(MORE.format(rest), style="dim")] if rest else []
        yield [Text(part.head, style="bold"), *part.items[:shown], *more]
        room -= HEAD + sum(heights[number][:shown]) + len(more)


def _fitting(heights: Sequence[int], room: float) -> int:
    """How many of the first items fit, with a line for the count of the others where there are any."""
    if sum(heights) <= room:
        return len(heights)
    return sum(total <= room - 1 for total in accumulate(heights))


def _whole(run: Run, verdict: Verdict, width: int, *, looking: bool) -> list[list[RenderableType]]:
    heading, attention = evidence.attention_curves(run)
    found = remedies.tried(run)
    return [
        *_head(run, verdict, width),
        by_depth("depth", [curve.row(run) for curve in evidence.main_curves(run)], width),
        [Text(heading, style="dim"), *by_depth("depth", [curve.row(run) for curve in attention], width)] if attention else [],
        _conditions(run, width),
        _positions(run, width),
        _block(shift.HEADING.upper(), shift.shift_lines(run)),
        *(by_depth(head.upper(), rows, width) for head, rows in survival.survival_tables(run)),
        _block(survival.STOPPING.upper(), survival.survival_lines(run, found)),
        [Text("FINDINGS", style="bold"), *_findings(verdict.findings, width)] if verdict.findings else [Text("No findings.", style="bold")],
        _block("WHAT TO DO", advice.advice_lines(run, verdict, found)),
        _block("ALSO", [*notes.axis_lines(verdict), *notes.remarks(run)]),
        *_remedies(run, verdict, found, width),
        _dim([*notes.pointers(run, verdict, looking=looking), notes.last_line(verdict)]),
    ]


def _head(run: Run, verdict: Verdict, width: int) -> list[list[RenderableType]]:
    """The pair and how it was measured; the verdict with its cost."""
    return [
        [Text(evidence.pair_line(run), style="bold"), Text(evidence.facts_line(run), style="dim")],
        [*_verdict(verdict, width), *map(hanging, evidence.length_lines(run))],
    ]


def _verdict(verdict: Verdict, width: int) -> list[RenderableType]:
    """The banner with the headline beside it, or below where what is sure and what is likely take a line of their own."""
    banner = Text(evidence.banner(verdict), style=f"bold {COLOURS[verdict.severity]}", overflow="fold")
    below = [hanging(printable(verdict.open))] if verdict.open else []
    if len(banner) > LONGEST_BESIDE or width < NARROW:
        return [banner, Text(printable(verdict.headline), overflow="fold"), *below]
    shown = Table.grid(padding=(0, 3, 0, 0))
    shown.add_column(no_wrap=True)
    shown.add_row(banner, Text(printable(verdict.headline), overflow="fold"))
    return [shown, *below]


def _block(head: str, lines: Sequence[str]) -> list[RenderableType]:
    return [Text(head, style="bold"), *map(hanging, lines)] if lines else []


def _dim(lines: Sequence[str]) -> list[RenderableType]:
    return [Text(line, style="dim", overflow="fold") for line in lines]


def _conditions(run: Run, width: int) -> list[RenderableType]:
    rows = evidence.condition_rows(run)
    if not rows:
        return []
    cells = [
        (Text("" if number else probe), *map(Text, own))
        for probe, rows_of_probe in groupby(rows, key=itemgetter(0))
        for number, (_, *own) in enumerate(rows_of_probe)
    ]
    return listed(("CONDITIONS", "", evidence.length_name(run), evidence.KEPT), cells, 3, width)


def _positions(run: Run, width: int) -> list[RenderableType]:
    rows = [tuple(map(Text, row)) for row in evidence.position_rows(run)]
    return listed(("REPLY TOKENS", "replies", evidence.length_name(run), evidence.AGAINST_FIRST), rows, 3, width) if rows else []


def _findings(findings: Sequence[Finding], width: int) -> list[RenderableType]:
    if not findings:
        return []
    rows = [
        (Text(one.code, style="bold"), Text(evidence.grade(one), style=COLOURS[one.severity]), Text(printable(one.claim)))
        for one in findings
    ]
    return listed(("", "", ""), rows, 2, width)[1:]


def _remedies(run: Run, verdict: Verdict, found: Sequence[Outcome], width: int) -> list[list[RenderableType]]:
    by_length = speeds.speed_rows(run)
    if not found and not by_length:
        return []
    trials: list[RenderableType] = [*_trials(run, found, width), Text(remedies.heading(run, found), style="dim")] if found else []
    if answer := remedies.answer(run, verdict, found):
        trials.append(Text(answer, style="bold"))
    lengths = [*by_depth("DRAFT LENGTH", by_length, width), *map(hanging, speeds.payoff_lines(run))] if by_length else []
    return [trials, lengths, *(_block(head.upper(), lines) for head, lines in remedies.further_parts(run, verdict, found))]


def _trials(run: Run, found: Sequence[Outcome], width: int) -> list[RenderableType]:
    rows = [
        (Text(name), Text(state, style=STANDING.get(state, "")), Text(words), Text(gain))
        for state, name, words, gain in remedies.remedy_rows(run, found)
    ]
    return listed(("MITIGATIONS", "", "", ""), rows, 2, width)
