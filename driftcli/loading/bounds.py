"""Bounds on what a stranger's files may take: time and memory of a chat template, sizes of files, sizes that a config declares."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG

from driftcli.errors import FormatError, SourceError

if sys.platform != "win32":
    import resource

LONGEST_RENDERING = 10.0  # seconds that a chat template may take for one conversation (chosen by us: real ones take milliseconds)
LARGEST_RENDERING = 1 << 30  # bytes that it may take on top of what the process holds (chosen by us)
LARGEST_SMALL_FILE = 1 << 28  # bytes of a config, a tokenizer, a template or an index: 256 MiB, ten times the largest known (chosen by us)
PACKED = 8  # times the largest dimension of a stored tensor that a config may declare: 4-bit weights are packed eight to a number
FEWEST = 1 << 16  # what a config may declare whatever is stored: counts of small models' other parts (chosen by us)
COUNTS = re.compile(r"^(?:num_|n_(?!positions|ctx)|hidden_|intermediate_|vocab_)|(?:_size|_dim|_layers?|_heads?|_experts?)$")
LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks?|layer)\.(\d+)\.")


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


def check_declared(name: str, config: Mapping[str, object], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise FormatError where a config declares more than its weights can be: sizes far beyond any stored, or layers that are not stored.

    A model is laid out by its config before a weight is read, so a wrong number there would take all memory or never end.
    """
    largest = PACKED * max((size for shape in shapes.values() for size in shape), default=0)
    layers = {int(found[1]) for stored in shapes if (found := LAYER.search(stored))}
    for key, value in _numbers(config):
        if COUNTS.search(key) and value > max(largest, FEWEST):
            raise FormatError(f"{name}/config.json: {key} is {value}, far beyond the size of any stored tensor; correct it")
        if key in ("num_hidden_layers", "n_layer", "num_layers") and layers and value > 2 * (max(layers) + 1):
            raise FormatError(
                f"{name}/config.json: {key} is {value}, the weights hold {max(layers) + 1} layers; correct it or fetch the model again"
            )


def _numbers(config: Mapping[str, object]) -> Iterator[tuple[str, int]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _numbers(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            yield key, value
