"""`--output kind=KIND,path=FILE`: what is asked for beside the report, checked before anything is measured and written at the end."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from driftcli.errors import MachineError, UsageError
from driftcli.outcome import Outcome
from driftcli.report.choices import OUTPUT, OutputKind
from driftcli.suggestions import meant

if TYPE_CHECKING:
    from driftcli.report.outputs.kinds import Own

KINDS = get_args(OutputKind)
ASKED = r"kind=(?P<kind>[^,]*)(?:,path=(?P<path>.+))?"
SYNTAX = "expected kind=KIND,path=FILE, as kind=junit,path=report.xml"
OutputChoice = Annotated[list[str] | None, typer.Option("--output", metavar="kind=<kind>,path=<file>", help=OUTPUT)]
SUMMARY = "GITHUB_STEP_SUMMARY"  # names the file that GitHub shows below a run, where one runs us


@dataclass(frozen=True, slots=True)
class Output:
    """One output that was asked for; without a path it goes to stdout."""

    kind: OutputKind
    path: Path | None


def outputs_asked(asked: Sequence[str] | None, format: str) -> tuple[Output, ...]:
    """What `--output` asked for; UsageError for a word that asks for nothing, for a file that could not be written and for one asked twice.

    format: of the report on stdout, which annotations would spoil unless it is for people.
    """
    outputs = tuple(map(_output, asked or ()))
    places = [None if one.path is None else one.path.resolve() for one in outputs]
    if twice := next((one for number, one in enumerate(outputs) if places[number] in places[:number]), None):
        raise UsageError(f"--output {_words(twice)}: that place is asked for twice, expected one output each; name another file")
    if None in places and format != "terminal":
        raise UsageError(f"--output kind=github: goes to stdout, and so does --format {format}; give it a path, or leave the format out")
    return outputs


def deliver(outputs: Sequence[Output], outcome: Outcome, own: Own) -> None:
    """Write what was asked for; MachineError where a file cannot be written after all. own: kinds that the command itself renders."""
    if not outputs:
        return
    from driftcli.report.outputs import markdown
    from driftcli.report.outputs.kinds import rendered

    for one in outputs:
        text = rendered(one.kind, outcome, own) + "\n"
        if one.path is None:
            with suppress(BrokenPipeError):
                typer.echo(text, nl=False)
        else:
            _write(one.path.resolve(), text)  # a link stays one
        if one.kind == "github" and (summary := os.environ.get(SUMMARY)):
            _append(Path(summary), markdown.render(outcome) + "\n")


def _output(word: str) -> Output:
    found = re.fullmatch(ASKED, word, flags=re.DOTALL)
    if found is None:
        kind, equals, path = word.partition("=")
        known = f"; did you mean kind={kind},path={path}?" if equals and kind in KINDS else f", with a kind of {', '.join(KINDS)}"
        raise UsageError(f"--output {word}: {SYNTAX}{known}")
    kind, path = found["kind"], found["path"]
    if kind not in KINDS:
        raise UsageError(f"--output {word}: no kind {kind!r}; {meant(kind, KINDS)}expected one of {', '.join(KINDS)}")
    if path is None and kind != "github":
        raise UsageError(f"--output {word}: only github goes to stdout; name a file, as kind={kind},path=report")
    return Output(cast("OutputKind", kind), None if path is None else _writable(word, path))


def _writable(word: str, given: str) -> Path:
    """The file to write, in a folder that is there and is no run's own."""
    from driftcli.traces.layout import MANIFEST

    try:
        path = Path(given).expanduser()
        if "\0" in given or path.name in ("", "-", ".."):
            raise UsageError(f"--output {word}: names no file; name one, as ./report")
        if not path.parent.is_dir():
            raise UsageError(f"--output {word}: there is no folder {path.parent}; make it first, or name another file")
        if path.exists() and not path.is_file():
            raise UsageError(f"--output {word}: {path} is there and no plain file; name another")
        if (path.parent / MANIFEST).exists():
            raise UsageError(f"--output {word}: {path.parent} is the folder of a run, which holds nothing else; name a file outside it")
    except (OSError, RuntimeError) as error:
        raise UsageError(f"--output {word}: no file can be there ({error}); name another") from error
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"--output {word}: {path.parent} cannot be written to; name a file elsewhere")
    return path


def _words(one: Output) -> str:
    return f"kind={one.kind}{f',path={one.path}' if one.path else ''}"


def _write(path: Path, text: str) -> None:
    from driftcli.traces.layout import written_aside

    try:
        with written_aside(path) as aside:
            aside.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise MachineError(f"{path}: cannot be written ({error.strerror or error}); make room, and report the run again") from error


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except OSError as error:
        raise MachineError(f"{path}: {SUMMARY} names it, and it cannot be written ({error.strerror or error}); unset it") from error
