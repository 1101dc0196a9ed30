"""`driftcli probes`: the battery, each probe with its question, and what the probe of mitigations tries."""

from __future__ import annotations

import sys

import typer

from driftcli.cli.explain import entry
from driftcli.domain import Axis


def probes() -> None:
    """List the battery: each probe's question, the axes that it judges, and whether --quick runs it; then what the mitigations are."""
    from driftcli.cli.battery import WHOLE
    from driftcli.mitigations.probe import MITIGATIONS
    from probes import QUICK

    for probe in WHOLE:
        typer.echo(entry(probe.name, facts(probe.axes, quick=probe.name in QUICK), question(type(probe).__module__)))
    typer.echo("\nTried by the last of them:")
    for one in MITIGATIONS:
        typer.echo(entry(one.name, one.kind, question(type(one).__module__)))


def question(module: str) -> str:
    """The first line of a probe's module, which is its question."""
    return (sys.modules[module].__doc__ or "").splitlines()[0]


def facts(axes: tuple[Axis, ...], *, quick: bool) -> str:
    """What a probe judges, and whether --quick runs it."""
    judged = f"judges {', '.join(axes)}" if axes else "notes only"
    return f"{judged}; {'in --quick too' if quick else 'not in --quick'}"
