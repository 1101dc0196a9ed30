"""The report as one page that needs nothing but itself: no network, no file beside it, and no script or style but those it names."""

from __future__ import annotations

import json
from functools import cache

from jinja2 import Environment, FunctionLoader, StrictUndefined

from driftcli.domain import Verdict
from driftcli.printable import printable
from driftcli.report.html import embed, words
from driftcli.report.html.content import content
from driftcli.report.html.numbers import Form, Number
from driftcli.report.html.texts import sampled
from driftcli.traces.reader import Run
from driftcli.traces.writer import Plain

STYLE, FIRST = "style.css", "theme.js"
LIBRARIES = ("vendor/d3.min.js", "vendor/plot.umd.min.js")
SCRIPTS = ("tips.js", "charts.js", "texts.js", "page.js")
LICENCES = ("vendor/d3.LICENSE", "vendor/plot.LICENSE")


def render(run: Run, verdict: Verdict, *, all_prompts: bool = False) -> str:
    """The page, without a trailing newline; the same run gives the same text. all_prompts: with all texts, whatever their size."""
    scripts = [*map(embed.asset, LIBRARIES), "\n".join(map(embed.asset, SCRIPTS))]
    return (
        _environment()
        .get_template("page.html")
        .render(
            parts=content(run, verdict),
            texts=sampled(run, all_prompts=all_prompts),
            policy=embed.policy([embed.asset(FIRST), *scripts], [embed.asset(STYLE)]),
            style=embed.asset(STYLE),
            first=embed.asset(FIRST),
            scripts=scripts,
            licences=[embed.asset(name) for name in LICENCES],
        )
    )


@cache
def _environment() -> Environment:
    """Templates beside the assets; everything that is not marked safe is escaped."""
    made = Environment(loader=FunctionLoader(embed.asset), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters.update(
        linked=words.linked, data=embed.data, shown=lambda value: printable(str(value)), as_text=_as_text, indented=_indented
    )
    made.globals.update(term=words.term, code=words.code, anchor=words.anchor)
    return made


def _as_text(value: float | None, form: Form) -> str:
    return Number(value).text(form)


def _indented(values: Plain) -> str:
    return json.dumps(values, indent=2)
