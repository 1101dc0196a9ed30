"""The output formats, once: `--format` offers what this table holds (`choices.OutputFormat`, a test), and what other packages install.

A format of another package is a function of a run and its verdict that gives text; its entry point is of the group `driftcli.formats`.
"""

from __future__ import annotations

from collections.abc import Callable

from rich.console import RenderableType

from driftcli.domain import Verdict
from driftcli.errors import PluginError, UsageError
from driftcli.plugins import Failed, Group, Loaded, loaded, named, offered
from driftcli.report import json, markdown, model_card, terminal
from driftcli.report.choices import OutputFormat
from driftcli.report.console import put
from driftcli.report.html import page
from driftcli.suggestions import meant
from driftcli.traces.reader import Run

Renderer = Callable[[Run, Verdict], str | RenderableType]
GROUP: Group = "driftcli.formats"
RENDERERS: dict[OutputFormat, Renderer] = {
    "terminal": terminal.page,
    "json": json.render,
    "markdown": markdown.render,
    "model-card": model_card.render,
    "html": page.render,
}


def show(run: Run, verdict: Verdict, format: str, *, full: bool) -> None:
    """Print the report on stdout. full: on a terminal all of it, as the other formats always have it."""
    render = terminal.whole if full and format == "terminal" else renderer(format)
    shown = render(run, verdict)
    if format not in RENDERERS and not isinstance(shown, str):
        raise PluginError(f"--format {format}: gave a {type(shown).__name__}, expected text; ask whoever wrote it to mend it")
    put(shown)


def renderer(format: str) -> Renderer:
    """What renders a format, one of our own or an installed one; UsageError for an unknown name, PluginError for a useless one."""
    if own := next((render for name, render in RENDERERS.items() if name == format), None):
        return own
    plugin = named(GROUP, list(RENDERERS), format)
    if plugin is None:
        known = [*RENDERERS, *(one.name for one in offered(GROUP, list(RENDERERS)) if not one.refused)]
        raise UsageError(f"--format {format}: no such format; {meant(format, known)}expected one of {', '.join(known)}")
    found = loaded(plugin, as_renderer)
    if isinstance(found, Failed):
        raise PluginError(f"--format {format}, of {plugin.package}: {found.reason}; `driftcli probes` lists what can be used")
    return found.thing


def installed_formats() -> list[Loaded[Renderer] | Failed]:
    """The formats of all installed packages, imported, and those that cannot be with the reason."""
    return [loaded(plugin, as_renderer) for plugin in offered(GROUP, list(RENDERERS))]


def as_renderer(thing: object) -> Renderer | str:
    """What an entry point holds as a format, or what is wrong with it."""
    if isinstance(thing, type) or not callable(thing):
        return f"is a {type(thing).__name__}, expected a function of a run and a verdict that gives text"
    return thing
