"""The kinds of `--output`, once: a function from an outcome to text each (`choices.OutputKind` offers them, a test).

What a command itself shows better than its outcome alone, such as the report of a run as JSON, Markdown or a page, it gives along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from driftcli.outcome import Outcome
from driftcli.report.choices import OutputKind
from driftcli.report.outputs import github, html, json, junit, markdown, sarif

KINDS: dict[OutputKind, Callable[[Outcome], str]] = {
    "json": json.render,
    "junit": junit.render,
    "sarif": sarif.render,
    "github": github.render,
    "markdown": markdown.render,
    "html": html.render,
}
Own = Mapping[OutputKind, Callable[[], str]]


def rendered(kind: OutputKind, outcome: Outcome, own: Own) -> str:
    """The text of one kind, the command's own where it has one; without a trailing newline."""
    return own[kind]() if kind in own else KINDS[kind](outcome)
