"""The battery as a list: each probe with its question, what the probe of mitigations tries, and what other packages add."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from driftcli.cli.battery import WHOLE, installed_probes
from driftcli.cli.explain import entry
from driftcli.domain import Axis
from driftcli.mitigations.probe import MITIGATIONS
from driftcli.plugins import LONGEST_REASON, Failed, Loaded, Plugin
from driftcli.printable import one_line, printable
from driftcli.report.formats import installed_formats
from probes import QUICK


def list_battery() -> None:
    """Print every probe, every mitigation, and what installed packages add, with their package, or cannot, with the reason."""
    for probe in WHOLE:
        typer.echo(entry(probe.name, facts(probe.axes, quick=probe.name in QUICK), question(type(probe).__module__)))
    typer.echo("\nTried by the last of them:")
    for one in MITIGATIONS:
        typer.echo(entry(one.name, one.kind, question(type(one).__module__)))
    added, formats = installed_probes(), installed_formats()
    asked = [(one.plugin, judged(one.thing.axes), question(one.plugin.entry.module)) for one in added if isinstance(one, Loaded)]
    shown = [(one.plugin, "a format", (one.thing.__doc__ or "").partition("\n")[0]) for one in formats if isinstance(one, Loaded)]
    useless = [(one.plugin, one.plugin.entry.group, one.reason) for one in (*added, *formats) if isinstance(one, Failed)]
    _list("Probes of other packages, for --probe NAME:", asked)
    _list("Report formats of other packages, for --format NAME:", shown)
    _list("Installed, and cannot be used:", useless)


def _list(heading: str, entries: Sequence[tuple[Plugin, str, str]]) -> None:
    """What other packages added, each with a word on it and a text, in which nothing drives the terminal."""
    if entries:
        typer.echo(f"\n{heading}")
    for plugin, what, text in entries:
        told = (printable(one_line(said, LONGEST_REASON)) for said in (plugin.name, f"{plugin.package}; {what}", text))
        typer.echo(entry(*told).rstrip())


def question(module: str) -> str:
    """The first line of a probe's module, which is its question; empty where it has none."""
    return (getattr(sys.modules.get(module), "__doc__", None) or "").partition("\n")[0]


def facts(axes: tuple[Axis, ...], *, quick: bool) -> str:
    """What a probe judges, and whether --quick runs it."""
    return f"{judged(axes)}; {'in --quick too' if quick else 'not in --quick'}"


def judged(axes: tuple[Axis, ...]) -> str:
    """What a probe judges."""
    return f"judges {', '.join(axes)}" if axes else "notes only"
