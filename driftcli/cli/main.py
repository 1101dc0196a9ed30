"""The entry point: one `except DriftError`, where an error becomes one sentence and an exit code."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, TextIO

import typer

from driftcli.cli.check import check
from driftcli.cli.compare import compare
from driftcli.cli.config import Configured
from driftcli.cli.costs import costs
from driftcli.cli.diagnose import diagnose
from driftcli.cli.explain import explain
from driftcli.cli.heal import heal
from driftcli.cli.inspect import inspect
from driftcli.cli.net import INTERRUPTED, Net
from driftcli.cli.plan import plan
from driftcli.cli.probes import probes
from driftcli.cli.report import report
from driftcli.cli.scan import scan
from driftcli.cli.server import server
from driftcli.cli.threads import let_waiting_threads_sleep
from driftcli.errors import DriftError, MachineError, Stopped
from driftcli.printable import escape_what_cannot_be_encoded, printable

PIPE_CLOSED = 141  # 128 + SIGPIPE: how any command ends whose reader left before the end


def _print_version(asked: bool) -> None:
    if asked:
        from importlib import metadata

        typer.echo(f"driftcli {metadata.version('driftcli')}")
        raise typer.Exit


app = typer.Typer(
    name="driftcli",
    help="Tell why a speculative drafter loses tokens: attention drift, its cost, and what is something else.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: the same everywhere, and drawn without loading rich
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=Configured)(diagnose)
app.command(cls=Configured)(plan)
app.command(cls=Configured)(report)
app.command(cls=Configured)(check)
app.command(cls=Configured)(compare)
app.command(cls=Configured)(inspect)
app.command(cls=Configured)(heal)
app.command(cls=Configured)(scan)
app.command(cls=Configured)(server)
app.command(cls=Configured)(costs)
app.command(cls=Configured)(explain)
app.command(cls=Configured)(probes)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Diagnose drafter/target pairs."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; a refusal is one sentence on stderr and its exit code."""
    let_waiting_threads_sleep()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    escape_what_cannot_be_encoded()
    raise SystemExit(_flushed(_ended(list(sys.argv[1:] if argv is None else argv))))


def _ended(words: list[str]) -> int | str | None:
    """Run one command line to its end; the exit code."""
    try:
        with Net():
            app(args=words, obj=words)
    except Stopped as stop:
        tell(f"{'' if stop.exit_code == INTERRUPTED else 'error: '}{stop}; {going_on(words, stop.folder)}")
        return stop.exit_code
    except DriftError as error:
        tell(f"error: {error}")
        return error.exit_code
    except SystemExit as ended:
        return _code(ended)
    return 0


def going_on(words: Sequence[str], folder: Path) -> str:
    """What is kept, and the command line that goes on from there, to be pasted into a shell."""
    named = any(word == "--out" or word.startswith("--out=") for word in words)
    again = [word for word in words if word != "--force"]  # which would begin anew
    line = printable(shlex.join(["driftcli", *again, *([] if named else ["--out", str(folder)])]))
    kept = "whole batches are kept" if (folder / "run.json").is_file() else "nothing is measured yet"
    return f"{kept}, and this goes on from there: {line}"


def _code(ended: SystemExit) -> int | str | None:
    """The exit code of a command that typer ended, which says 1 both of a pipe whose reader left and of a library's end of file."""
    behind = ended.__context__
    if isinstance(behind, BrokenPipeError):
        return PIPE_CLOSED
    if ended.code == 1 and behind is not None and isinstance(behind.__cause__, EOFError):
        raise behind.__cause__
    if ended.code == INTERRUPTED:
        tell("interrupted; the same command starts again")
    return ended.code


def tell(line: str) -> None:
    """Say a line on stderr, if anybody is there to read it."""
    try:
        print(printable(line), file=sys.stderr, flush=True)
    except OSError:
        _silence(sys.stderr)


def _flushed(code: int | str | None) -> int | str | None:
    """The exit code once all output is written: a reader that left early changes nothing, a full disk does."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _silence(sys.stdout)
    except OSError as error:
        _silence(sys.stdout)
        tell(f"error: standard output: {error.strerror or error}; the report is not whole, so make room and print it again")
        return MachineError.exit_code
    return code


def _silence(stream: TextIO) -> None:
    """Let what a stream still holds go nowhere, so that nothing is said about it when the interpreter ends."""
    with suppress(OSError), Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
