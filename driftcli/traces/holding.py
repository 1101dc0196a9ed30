"""Holding a run folder: one process writes to it at a time, and whoever comes second is told who holds it.

The lock is the operating system's, so it goes with its process however that ends. Where a file system knows no locks the run goes on
without one.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from driftcli.errors import RunError
from driftcli.traces.layout import LOCK_FILE, refuse_foreign

if sys.platform != "win32":
    import fcntl

LONGEST_HOLDER = 200  # bytes of what a lock says that are read (chosen by us)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """The folder at `path`, made where there is none, held for this process alone; folders made for it go again where nothing was written.

    Raises RunError where it cannot be made or written to, holds something else than a run, or another process holds it.
    """
    made: list[Path] = []
    try:
        try:
            refuse_foreign(path)
            _make(path, made)
            lock = _locked(path / LOCK_FILE)
        except OSError as error:
            raise RunError(
                f"{str(path)[:LONGEST_HOLDER]}: cannot be written to ({error.strerror or error}), expected a folder for the run; "
                "name another with --out"
            ) from error
        try:
            yield
        finally:
            with suppress(OSError):
                (path / LOCK_FILE).unlink(missing_ok=True)
            os.close(lock)
    finally:
        for folder in reversed(made):
            with suppress(OSError):  # something was written to it
                folder.rmdir()


def _make(path: Path, made: list[Path]) -> None:
    """Make a folder and those above it; `made` holds those that were not there."""
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
            made.append(folder)


def _locked(path: Path) -> int:
    """An open lock file that this process holds; one that its last holder removed meanwhile is left for a new one."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(lock, path)
            if _is_still(lock, path):
                os.ftruncate(lock, 0)
                os.pwrite(lock, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
                return lock
        except (OSError, RunError):
            os.close(lock)
            raise
        os.close(lock)


def _lock(lock: int, path: Path) -> None:
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunError(
            f"{path.parent}: another driftcli is writing to this folder ({_holder(lock)}); wait for it, end it, or name another with --out"
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
            raise


def _is_still(lock: int, path: Path) -> bool:
    """Whether the locked file is the one that stands there."""
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False


def _holder(lock: int) -> str:
    """Who says to hold it."""
    try:
        told = json.loads(os.pread(lock, LONGEST_HOLDER, 0))
        return f"process {int(told['pid'])} on {told['host']}"
    except (ValueError, KeyError, TypeError):
        return "a process that has not said its number yet"
