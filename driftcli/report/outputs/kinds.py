"""The kinds of `--output`, once: a function from an outcome to text each (`choices.OutputKind` offers them, a test).

What a command itself shows better than its outcome alone, such as the report of a run as JSON, Markdown or a page, it gives along.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import cast

from driftcli.domain import Verdict
from driftcli.gate import json as outcome_json
from driftcli.outcome import Outcome
from driftcli.report import json as report_json
from driftcli.report.choices import OutputKind
from driftcli.report.formats import renderer
from driftcli.report.outputs import github, html, junit, markdown, sarif
from driftcli.traces.reader import Run

KINDS: dict[OutputKind, Callable[[Outcome], str]] = {
    "json": outcome_json.render,
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


def of_report(run: Run, verdict: Verdict, outcome: Outcome) -> Own:
    """What a report shows better than its outcome: all its numbers, with the outcome beside them, and what people read."""
    pages: dict[OutputKind, Callable[[], str]] = {
        kind: lambda kind=kind: cast("str", renderer(kind)(run, verdict))  # type: ignore[misc]
        for kind in ("markdown", "html")
    }

    def whole() -> str:
        return json.dumps({**report_json.report(run, verdict), "outcome": outcome_json.outcome_json(outcome)}, indent=2, allow_nan=False)

    return {**pages, "json": whole}
