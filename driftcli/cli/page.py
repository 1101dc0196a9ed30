"""Where the report goes as a page: to a file, unless it is piped; a file that holds something else stays unless --force says otherwise."""

from __future__ import annotations

import sys
import webbrowser
from dataclasses import dataclass
from pathlib import Path

import typer

from driftcli.domain import Verdict
from driftcli.errors import MachineError, RunError, UsageError
from driftcli.printable import printable
from driftcli.traces.layout import PAGE_FILE, written_aside
from driftcli.traces.reader import Run

STDOUT = Path("-")


@dataclass(frozen=True, slots=True)
class Page:
    """What was asked of the page. out: None for the run folder, or stdout where that is piped; opened: show it in a browser."""

    out: Path | None = None
    force: bool = False
    opened: bool = False
    all_prompts: bool = False


def asked_page(format: str, page: Page) -> tuple[str, Page]:
    """The format, which --open settles, and the page; UsageError for what is said of a page where none is asked for."""
    if page.opened and page.out == STDOUT:
        raise UsageError("--open --out -: a page that goes to stdout cannot be opened; name a file, or leave --out away")
    if page.opened and format in ("terminal", "html"):
        return "html", page
    if format != "html" and page != Page():
        raise UsageError(f"--format {format}: --out, --force, --open and --all-prompts are about the page; add --format html")
    return format, page


def write_page(run: Run, verdict: Verdict, page: Page) -> None:
    """Write the page, and show it where that was asked for; RunError for a file that holds something else, MachineError where there is no
    room or permission.
    """
    from driftcli.report.html.page import render

    text = f"{render(run, verdict, all_prompts=page.all_prompts)}\n"
    if page.out == STDOUT or (page.out is None and not page.opened and not sys.stdout.isatty()):
        sys.stdout.write(text)
        return
    path = page.out or run.path / PAGE_FILE
    _write(path, text.encode(), force=page.force)
    typer.echo(printable(f"page: {path} ({len(text.encode()) / 1e6:.2f} MB)"), err=True)
    if page.opened and not webbrowser.open(path.resolve().as_uri()):
        typer.echo(printable(f"no browser could be started here; open {path} in one"), err=True)


def _write(path: Path, content: bytes, *, force: bool) -> None:
    """Write a file whole or not at all; nothing where it holds just that."""
    try:
        if path.exists() and not force:
            if path.is_file() and path.read_bytes() == content:
                return
            raise RunError(f"{path}: is there and differs from this run's page; --force overwrites it, --out names another file")
        with written_aside(path) as aside:
            aside.write_bytes(content)
    except OSError as error:
        raise MachineError(f"{path}: the page cannot be written ({error.strerror or error}); name another file with --out") from error
