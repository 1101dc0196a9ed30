"""The entry point: one `except DriftError`, where an error becomes one sentence and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from driftcli.cli.diagnose import diagnose
from driftcli.cli.report import report
from driftcli.errors import DriftError

app = typer.Typer(
    name="driftcli",
    help="Tell why a speculative drafter loses tokens: attention drift, its cost, and what is something else.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(diagnose)
app.command()(report)


@app.callback()
def _root() -> None:
    """Diagnose drafter/target pairs."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; a refusal is one sentence on stderr and its exit code."""
    try:
        app(args=list(argv) if argv is not None else None)
    except DriftError as error:
        print(f"error: {_printable(str(error))}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        print("interrupted; what was measured is kept, the same command goes on from there", file=sys.stderr)
        raise SystemExit(130) from None


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
