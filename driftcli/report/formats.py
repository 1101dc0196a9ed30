"""The output formats, once: `--format` offers what this table holds (`choices.OutputFormat`, a test), and what other packages install.

A format of another package is a function of a run and its verdict that gives text; its entry point is of the group `driftcli.formats`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import cast

from rich.console import RenderableType

from driftcli.domain import Verdict
from driftcli.errors import PluginError, UsageError
from driftcli.plugins import Failed, Group, Loaded, loaded, named, offered
from driftcli.report.choices import OutputFormat
from driftcli.report.console import put
from driftcli.suggestions import meant
from driftcli.traces.reader import Run

Renderer = Callable[[Run, Verdict], str | RenderableType]
GROUP: Group = "driftcli.formats"
RENDERERS: dict[OutputFormat, str] = {  # loaded where they are asked for: each brings much that the others do without
    "terminal": "driftcli.report.terminal:page",
    "json": "driftcli.report.json:render",
    "markdown": "driftcli.report.markdown:render",
    "model-card": "driftcli.report.model_card:render",
    "html": "driftcli.report.html.page:render",
}
WHOLE = "driftcli.report.terminal:whole"


def show(run: Run, verdict: Verdict, format: str, *, full: bool) -> None:
    """Print the report on stdout. full: on a terminal all of it, as the other formats always have it."""
    render = _own("terminal", WHOLE) if full and format == "terminal" else renderer(format)
    shown = render(run, verdict)
    if format not in RENDERERS and not isinstance(shown, str):
        raise PluginError(f"--format {format}: gave a {type(shown).__name__}, expected text; ask whoever wrote it to mend it")
    put(shown)


def renderer(format: str) -> Renderer:
    """What renders a format, one of our own or an installed one; UsageError for an unknown name, PluginError for a useless one."""
    if own := next((reference for name, reference in RENDERERS.items() if name == format), None):
        return _own(format, own)
    plugin = named(GROUP, list(RENDERERS), format)
    if plugin is None:
        known = [*RENDERERS, *(one.name for one in offered(GROUP, list(RENDERERS)) if not one.refused)]
        raise UsageError(f"--format {format}: no such format; {meant(format, known)}expected one of {', '.join(known)}")
    found = loaded(plugin, as_renderer)
    if isinstance(found, Failed):
        raise PluginError(f"--format {format}, of {plugin.package}: {found.reason}; `driftcli probes` lists what can be used")
    return found.thing


def _own(format: str, reference: str) -> Renderer:
    return cast(Renderer, EntryPoint(format, reference, GROUP).load())


def installed_formats() -> list[Loaded[Renderer] | Failed]:
    """The formats of all installed packages, imported, and those that cannot be with the reason."""
    return [loaded(plugin, as_renderer) for plugin in offered(GROUP, list(RENDERERS))]


def as_renderer(thing: object) -> Renderer | str:
    """What an entry point holds as a format, or what is wrong with it."""
    if isinstance(thing, type) or not callable(thing):
        return f"is a {type(thing).__name__}, expected a function of a run and a verdict that gives text"
    return thing
