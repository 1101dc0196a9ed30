"""Bounds on what a stranger's files may take: time and memory of a chat template, kinds and sizes of files."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG

from driftcli.errors import SourceError

if sys.platform != "win32":
    import resource

LONGEST_RENDERING = 10.0  # seconds that a chat template may take for one conversation (chosen by us: real ones take milliseconds)
LARGEST_RENDERING = 1 << 30  # bytes that it may take on top of what the process holds (chosen by us)
LARGEST_SMALL_FILE = 1 << 28  # bytes of a config, a tokenizer, a template or an index: 256 MiB, ten times the largest known (chosen by us)


class BeyondBounds(Exception):
    """More than what a stranger's code may take, in words."""


class _TooLong(BaseException):
    """What a template that takes too long is ended by; nothing that it calls catches it."""


@contextmanager
def bounded_rendering() -> Iterator[None]:
    """What runs inside gets so much time and memory; raises BeyondBounds when it takes more.

    Time is kept by an alarm, which only the main thread of a process can set, memory by the process's address space, which not every system
    can limit: elsewhere there is no such bound.
    """
    with _address_space(LARGEST_RENDERING), _alarm(LONGEST_RENDERING):
        try:
            yield
        except _TooLong:
            raise BeyondBounds(f"takes more than {LONGEST_RENDERING:.0f} s for one conversation") from None
        except MemoryError:
            raise BeyondBounds(f"takes more than {LARGEST_RENDERING >> 20} MiB for one conversation") from None


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, end)
    left, every = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left, every)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _address_space(more: int) -> Iterator[None]:
    if not sys.platform.startswith("linux"):
        yield
        return
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = pages * os.sysconf("SC_PAGE_SIZE") + more
    resource.setrlimit(resource.RLIMIT_AS, (wanted if soft == resource.RLIM_INFINITY else min(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def require_plain(path: Path, largest: int | None = LARGEST_SMALL_FILE) -> None:
    """Raise SourceError for a path that leads to no regular file, whose reading might never end, or to one larger than such files are."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    if not S_ISREG(found.st_mode):
        raise SourceError(f"{path}: is no regular file, expected one; fetch it again")
    if largest is not None and found.st_size > largest:
        raise SourceError(f"{path}: holds {found.st_size >> 20} MiB, expected at most {largest >> 20} for such a file; fetch it again")
