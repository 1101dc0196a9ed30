"""How the scripts start: a refusal is one sentence and its exit code, as driftcli's own."""

from __future__ import annotations

from collections.abc import Callable

import typer

from driftcli.errors import DriftError


def run(main: Callable[..., None]) -> None:
    """Run a script's `main` on the command line."""
    try:
        typer.run(main)
    except DriftError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(error.exit_code) from None
