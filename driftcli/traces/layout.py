"""What a run folder holds, by name: so a run is told from somebody else's files, and only what driftcli wrote is ever removed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from driftcli.errors import RunError
from driftcli.traces.schema import PIECES, TABLES

MANIFEST, FINDINGS_FILE, COSTS_FILE, LOCK_FILE = "run.json", "findings.json", "costs.json", "run.lock"
PIECES_FILE = f"{PIECES}.parquet"
PAGE_FILE = "report.html"
ENGINE_FOLDER = "engine"  # of files that an engine hands over while a run is under way
HANDED_OVER = "*.safetensors"  # in it
FILES = (MANIFEST, FINDINGS_FILE, COSTS_FILE, LOCK_FILE, PIECES_FILE, PAGE_FILE)
CONDITION = r"[A-Za-z0-9][A-Za-z0-9._+-]*"  # a condition's name, which its files carry
CELL = rf"(?P<condition>{CONDITION})-(?P<batch>[0-9a-f]{{12}})\.parquet"
# of half-written files; without the digits as older versions wrote them
ASIDE = rf"(?:(?:run|findings|costs)(?:\.json\.[0-9a-f]{{8}})?|(?:{PIECES}\.parquet|report\.html)\.[0-9a-f]{{8}})\.tmp"
CELL_ASIDE = rf"(?:{CELL}\.[0-9a-f]{{8}}|{CONDITION}-[0-9a-f]{{12}})\.tmp"
HEAD = 4096  # bytes of a manifest by which it is recognised (chosen by us); the schema stands first in it


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A name of its own beside `path` to write to; what was written takes its place at the end, and goes where writing fails."""
    aside = path.with_name(f"{path.name}.{token_hex(4)}.tmp")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def refuse_foreign(path: Path) -> None:
    """RunError unless a run may be written to `path`: nothing is there, an empty folder, or a folder that driftcli began."""
    if path.exists() and not path.is_dir():
        raise RunError(f"{path}: this is a file, expected a folder to write the run to; name another with --out")
    if (manifest := path / MANIFEST).exists() and not manifest.is_file():
        raise RunError(f"{manifest}: this is no plain file, expected the one that describes a run; name another folder with --out")
    if path.is_dir() and any(path.iterdir()) and not begun_here(path):
        raise RunError(f"{path}: holds files that are no driftcli run; name an empty or new folder with --out")


def begun_here(path: Path) -> bool:
    """Whether driftcli began the run in a folder, even where its `run.json` is broken or gone; other files may stand beside it then."""
    manifest = path / MANIFEST
    if not manifest.exists():
        return all(_is_own(entry) for entry in path.iterdir())
    with manifest.open("rb") as file:
        head = file.read(HEAD)
    return not head.strip(b"\0 \n") or b'"schema"' in head or all((path / name).is_dir() for name in TABLES)


def _is_own(entry: Path) -> bool:
    return (entry.is_dir() and entry.name in (*TABLES, ENGINE_FOLDER)) or (
        entry.is_file() and (entry.name in FILES or bool(re.fullmatch(ASIDE, entry.name)))
    )


def cell_files(path: Path) -> Iterator[tuple[Path, re.Match[str]]]:
    """The Parquet files of a run's cells, by their names, in every table."""
    for table in TABLES:
        for file in sorted((path / table).glob("*.parquet")):
            if name := re.fullmatch(CELL, file.name):
                yield file, name


def remove_leftovers(path: Path) -> None:
    """Remove what a killed run left half written."""
    for folder, pattern in ((path, ASIDE), *((path / table, CELL_ASIDE) for table in TABLES)):
        for file in folder.glob("*.tmp"):
            if re.fullmatch(pattern, file.name):
                file.unlink(missing_ok=True)
    for file in (path / ENGINE_FOLDER).glob(HANDED_OVER):
        file.unlink(missing_ok=True)
    with suppress(OSError):  # it is not there, or holds something else
        (path / ENGINE_FOLDER).rmdir()
