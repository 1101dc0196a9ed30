"""An outcome as a page of its own: no script, nothing fetched, everything escaped."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template

from driftcli.outcome import Outcome
from driftcli.printable import printable
from driftcli.report.outputs.words import STATUS_WORDS, facts, of_status

Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # heads and rows


def render(outcome: Outcome, on: str = "", tables: Sequence[Table] = (), remarks: Sequence[str] = ()) -> str:
    """The page, without a trailing newline. on, tables, remarks: what a comparison is on, its numbers, and what must be known besides."""
    by_status = [(status, word, list(map(facts, of_status(outcome, status)))) for status, word in STATUS_WORDS.items()]
    about = {"subject": printable(outcome.subject), "where": printable(outcome.where), "headline": printable(outcome.headline)}
    shown = [(list(map(printable, heads)), [list(map(printable, row)) for row in rows]) for heads, rows in tables]
    beside = {"on": printable(on), "tables": shown, "remarks": list(map(printable, remarks))}
    return _template().render(**about, **beside, command=outcome.command, exit_code=outcome.exit_code, by_status=by_status)


@cache
def _template() -> Template:
    source = (files("driftcli.report.outputs") / "outcome.html.jinja").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(source)
