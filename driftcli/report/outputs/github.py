"""An outcome as workflow commands, which GitHub shows as annotations beside a step; `escaped` as in the toolkit's `command.ts`.

GitHub shows the first ten annotations of a level and step and drops the others without a word: where there are more, the tenth counts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from driftcli.outcome import Check, Outcome
from driftcli.printable import printable
from driftcli.report.outputs.words import STATUS_WORDS, lines, worst_first

Level = Literal["error", "warning", "notice"]
SHOWN = 10  # annotations of a level that GitHub shows a step


def render(outcome: Outcome) -> str:
    """A line an annotation, the worst first; one notice where there is nothing to annotate."""
    by_level: dict[Level, list[str]] = {"error": [], "warning": [], "notice": []}
    for check in worst_first(outcome):
        if (level := _level(check)) is not None:
            by_level[level].append(_of(outcome, level, check))
    found = [line for level, own in by_level.items() for line in _shown(level, own)]
    return "\n".join(found or [command("notice", f"driftcli {outcome.command}", printable(outcome.headline))])


def command(level: Level, title: str, message: str) -> str:
    """One workflow command: nothing in the title or the message can end it or begin another."""
    return f"::{level} title={_in_property(title)}::{escaped(message)}"


def escaped(text: str) -> str:
    """Text as the message of a command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _in_property(text: str) -> str:
    return escaped(text).replace(":", "%3A").replace(",", "%2C")


def _level(check: Check) -> Level | None:
    if check.accepted:
        return "notice"
    return "error" if check.status in ("failed", "undecided") else "warning" if check.status == "warned" else None


def _of(outcome: Outcome, level: Level, check: Check) -> str:
    """The annotation of a check: its first line, the one that the log shows, is the reason."""
    title = f"driftcli {outcome.command}: {printable(check.rule)} {'accepted' if check.accepted else STATUS_WORDS[check.status]}"
    said = [line for line in lines(check) if not line.startswith(("rule: ", "why: "))]
    return command(level, title, "\n".join([printable(check.reason), *said]))


def _shown(level: Level, own: Sequence[str]) -> list[str]:
    """As many as GitHub shows, the last of them a count of those that it would drop."""
    if len(own) <= SHOWN:
        return list(own)
    rest = f"{len(own) - SHOWN + 1} more of this kind stand in the step's summary and in the other outputs"
    return [*own[: SHOWN - 1], command(level, "driftcli", rest)]
