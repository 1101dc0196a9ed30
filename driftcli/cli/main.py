"""The entry point: one `except DriftError`, where an error becomes one sentence and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from driftcli.cli.diagnose import diagnose
from driftcli.cli.explain import explain
from driftcli.cli.probes import probes
from driftcli.cli.report import report
from driftcli.cli.scan import scan
from driftcli.errors import DriftError

INTERRUPTED = 130  # how typer ends when the person presses Ctrl-C

app = typer.Typer(
    name="driftcli",
    help="Tell why a speculative drafter loses tokens: attention drift, its cost, and what is something else.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: the same everywhere, and drawn without loading rich
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(diagnose)
app.command()(report)
app.command()(scan)
app.command()(explain)
app.command()(probes)


@app.callback()
def _root() -> None:
    """Diagnose drafter/target pairs."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; a refusal is one sentence on stderr and its exit code."""
    try:
        app(args=list(argv) if argv is not None else None)
    except DriftError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            print("interrupted; whole batches are kept, the same request with --out set to that folder goes on from there", file=sys.stderr)
        raise
