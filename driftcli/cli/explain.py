"""`driftcli explain CODE`: what a finding code means, what only looks like it, and what mends it."""

from __future__ import annotations

from textwrap import fill
from typing import Annotated

import typer

from driftcli.codes import BY_NAME, CODES, Code
from driftcli.errors import UsageError

WIDTH = 100


def explain(code: Annotated[str | None, typer.Argument(help="A finding's code; without one, all are listed.")] = None) -> None:
    """Say what a finding means, what looks the same and is not, and what mends it."""
    if code is None:
        typer.echo("\n\n".join(entry(one.name, one.axis, one.meaning) for one in CODES))
    elif (one := BY_NAME.get(code.upper())) is not None:
        typer.echo(explanation(one))
    else:
        raise UsageError(f"explain {code}: no such code, expected one of {', '.join(BY_NAME)}")


def explanation(code: Code) -> str:
    """All that is known of a code, within 100 columns."""
    return "\n\n".join(
        [
            f"{code.name}   ({code.axis})",
            fill(code.meaning, WIDTH),
            _labelled("looks the same: ", code.looks_like),
            "\n".join(_labelled("what mends it:  " if not place else "", remedy) for place, remedy in enumerate(code.remedies)),
        ]
    )


def entry(name: str, facts: str, text: str) -> str:
    """One entry of a list: a name with facts beside it, and a text below, within 100 columns."""
    return f"{name}   ({facts})\n{fill(text, WIDTH, initial_indent='    ', subsequent_indent='    ')}"


def _labelled(label: str, text: str) -> str:
    return fill(text, WIDTH, initial_indent=f"{label:16}", subsequent_indent=" " * 16)
