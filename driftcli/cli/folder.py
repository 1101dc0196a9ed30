"""The folder that a diagnosis writes to, asked for, taken up or new: checked before any model is loaded, held while it is written to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from itertools import count
from pathlib import Path

from driftcli.errors import RunError, UsageError
from driftcli.traces.holding import held
from driftcli.traces.soundness import in_full

RUNS = Path("runs")  # where folders go that nobody named
LONGEST_NAME = 80  # characters of a drafter's name that a folder's takes over (chosen by us)
URL = r"[A-Za-z][A-Za-z0-9+.-]*:(/|$)|file:"  # as a path, which has lost the second slash of `s3://`


@contextmanager
def run_folder(
    asked: Path | None, drafter: str, unfinished: Sequence[Path] = (), say: Callable[[str], None] = lambda _: None
) -> Iterator[Path]:
    """The folder of a run, writable and held for this process; what was made for it goes again where nothing was written to it.

    unfinished: runs that may be taken up where no folder is asked for, the first that nobody else holds; say: told why one is not.
    Raises UsageError for what is no plain path, and RunError for what cannot be written to, is no run, or is held by another process.
    """
    if asked is not None:
        path = _plain(asked)
        with held(path):
            yield path
        return
    with ExitStack() as holding:
        if (taken := next((path for path in unfinished if _taken(holding, path, say)), None)) is not None:
            yield taken
            return
    path = free_folder(RUNS, f"{datetime.now():%Y%m%d-%H%M%S}-{_name(drafter)}")
    try:
        with held(path):
            yield path
    finally:
        with suppress(OSError):  # something was written to it
            path.rmdir()
            path.parent.rmdir()


def _taken(holding: ExitStack, path: Path, say: Callable[[str], None]) -> bool:
    """Whether this process could take hold of a folder; else it is said why not."""
    try:
        holding.enter_context(held(path))
    except RunError as error:
        say(f"an unfinished run of the same command is left alone, and another one begins: {str(error).partition(';')[0]}")
        return False
    return True


def unfinished_runs(asked: Mapping[str, object]) -> tuple[Path, ...]:
    """Runs in `RUNS` that were asked for in the same words and are not complete, the last one begun first."""
    found = [(manifest.stat().st_mtime, manifest.parent) for manifest in RUNS.glob("*/run.json") if _asks(manifest, asked)]
    return tuple(path for _, path in sorted(found, reverse=True))


def _asks(manifest: Path, asked: Mapping[str, object]) -> bool:
    """Whether a manifest is that of an unfinished run of this request; one that cannot be read is not."""
    try:
        content = json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else None
    except (OSError, ValueError, RecursionError):
        return False
    before = content.get("asked") if isinstance(content, dict) and content.get("complete") is False else None
    return isinstance(before, dict) and in_full(before) == json.loads(json.dumps(asked))


def free_folder(parent: Path, name: str) -> Path:
    """A new folder, made here so that no other process gets the same: of this name, or with -2, -3 ... behind it."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            path = parent / (name if number == 1 else f"{name}-{number}")
            with suppress(FileExistsError):
                path.mkdir()
                break
    except OSError as error:
        raise RunError(f"{parent}: cannot be written to ({error.strerror or error}); name another folder with --out") from error
    return path


def _name(drafter: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", Path(drafter.rstrip("/")).name)[:LONGEST_NAME]


def _plain(asked: Path) -> Path:
    if re.match(URL, str(asked)):
        raise UsageError(f"--out {asked}: reads as a URL, expected a folder on this machine; name one by a plain path, such as ./runs/mine")
    try:
        return asked.expanduser()
    except RuntimeError as error:
        raise UsageError(f"--out {asked}: no such home folder ({error}), expected a folder to write to; name it in full") from error
