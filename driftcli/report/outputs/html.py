"""An outcome as a page of its own: no script, nothing fetched, everything escaped."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template

from driftcli.outcome import Outcome
from driftcli.printable import printable
from driftcli.report.outputs.words import STATUS_WORDS, facts, worst_first


def render(outcome: Outcome) -> str:
    """The page, without a trailing newline."""
    checks = [(check.status, STATUS_WORDS[check.status], facts(check)) for check in worst_first(outcome)]
    about = {"subject": printable(outcome.subject), "where": printable(outcome.where), "headline": printable(outcome.headline)}
    return _template().render(**about, command=outcome.command, exit_code=outcome.exit_code, checks=checks)


@cache
def _template() -> Template:
    source = (files("driftcli.report.outputs") / "outcome.html.jinja").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(source)
