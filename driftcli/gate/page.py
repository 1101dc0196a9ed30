"""An outcome on a terminal: the answer first, then what failed with its number and what to do, what cannot be told, what warns, a count."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from driftcli.outcome import Check, Outcome, Status
from driftcli.printable import few, printable
from driftcli.report.tables import listed

PARTS: tuple[tuple[Status, str, str], ...] = (
    ("failed", "FAILED", "red"),
    ("undecided", "CANNOT TELL", "cyan"),
    ("warned", "WARNINGS", "yellow"),
)
HEADS = {0: "green", 4: "red", 5: "cyan"}


class Page:
    """An outcome, laid out when it is shown, for the width that there is."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        outcome = self.outcome
        answer, colon, why = printable(outcome.headline).partition(":")
        yield Text.assemble((answer, f"bold {HEADS[outcome.exit_code]}"), f"{colon}{why}", overflow="fold")
        yield Text(printable(f"{outcome.subject}   {outcome.where}"), style="dim", overflow="fold")
        for status, head, colour in PARTS:
            yield from _part(head, colour, [check for check in outcome.checks if check.status == status], options.max_width)
        yield Text()
        for line in _counts(outcome.checks):
            yield Text(line, style="dim", overflow="fold")


def _part(head: str, colour: str, checks: Sequence[Check], width: int) -> list[RenderableType]:
    if not checks:
        return []
    rows = [(Text(printable(check.rule), style=colour), Text("\n".join(_lines(check)))) for check in checks]
    return [Text(), *listed((head, ""), rows, 1, width)]


def _lines(check: Check) -> list[str]:
    """Why, what it is accepted for, and what to do."""
    accepted = [f"accepted: {check.accepted}"] if check.accepted else []
    return list(map(printable, [check.reason, *accepted, *([f"fix: {check.fix}"] if check.fix and check.status != "warned" else [])]))


def _counts(checks: Sequence[Check]) -> list[str]:
    """How many rules passed, and which do not count and why."""
    passed = [printable(check.rule) for check in checks if check.status == "passed"]
    by_reason: dict[str, list[str]] = {}
    for check in checks:
        if check.status == "skipped":
            by_reason.setdefault(printable(check.reason), []).append(printable(check.rule))
    lines = [f"passed: {len(passed)} ({few(passed, 12)})" if passed else "passed: none"]
    return [*lines, *(f"not counted: {', '.join(rules)} ({reason})" for reason, rules in by_reason.items())]
