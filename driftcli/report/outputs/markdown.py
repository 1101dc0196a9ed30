"""An outcome as Markdown, for a pull request or a step's summary: what ended the gate in a table, the rest in two lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from driftcli.outcome import Check, Outcome, Status
from driftcli.printable import printable
from driftcli.report.markdown import escaped, table
from driftcli.report.outputs.words import STATUS_WORDS, limit, measured, needed, of_status, worst_first

IN_TABLE: tuple[Status, ...] = ("failed", "undecided", "warned")
MOST = 40  # rules in the table, and in each of the lists (chosen by us)


def render(outcome: Outcome) -> str:
    """The outcome, without a trailing newline."""
    rows = [check for check in worst_first(outcome) if check.status in IN_TABLE or check.accepted]
    passed = [check for check in of_status(outcome, "passed") if not check.accepted]
    blocks = [
        [f"## driftcli {outcome.command}: {_shown(outcome.headline)}"],
        [f"**{_shown(outcome.subject)}**  ", f"run: {_shown(outcome.where)}"],
        _table(rows),
        [f"Passed: {', '.join(_few(_shown(check.rule) for check in passed))}."] if passed else [],
        [f"Skipped: {'; '.join(_few(f'{_shown(one.rule)} ({_shown(one.reason)})' for one in of_status(outcome, 'skipped')))}."]
        if of_status(outcome, "skipped")
        else [],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _table(rows: Sequence[Check]) -> list[str]:
    if not rows:
        return []
    cells = [tuple(map(_shown, _cells(check))) for check in rows[:MOST]]
    more = [f"\nand {len(rows) - MOST} more"] if len(rows) > MOST else []
    return [*table(("", "rule", "why", "measured", "limit", "what to do"), ("---", "---", "---", "---", "--:", "---"), cells), *more]


def _cells(check: Check) -> tuple[str, str, str, str, str, str]:
    state = "accepted" if check.accepted else STATUS_WORDS[check.status]
    do = "; ".join(filter(None, (check.accepted, check.fix, needed(check))))
    return state, check.rule, check.reason, measured(check), limit(check), do


def _shown(text: str) -> str:
    return escaped(printable(text))


def _few(items: Iterable[str]) -> list[str]:
    found = list(items)
    return found if len(found) <= MOST else [*found[:MOST], f"and {len(found) - MOST} more"]
