"""`driftcli probes`: the battery, each probe with its question."""

from __future__ import annotations

import sys
from textwrap import fill

import typer

WIDTH = 100


def probes() -> None:
    """List the battery: each probe's question, the axes that it judges, and whether --quick runs it."""
    from probes import BATTERY, QUICK

    typer.echo("\n".join(_listed(probe.name, question(type(probe).__module__), probe.axes, quick=probe.name in QUICK) for probe in BATTERY))


def question(module: str) -> str:
    """The first line of a probe's module, which is its question."""
    return (sys.modules[module].__doc__ or "").splitlines()[0]


def _listed(name: str, asked: str, axes: tuple[str, ...], *, quick: bool) -> str:
    judged = f"judges {', '.join(axes)}" if axes else "notes only"
    facts = f"{judged}; {'in --quick too' if quick else 'not in --quick'}"
    return "\n".join([f"{name}   ({facts})", fill(asked, WIDTH, initial_indent="    ", subsequent_indent="    ")])
