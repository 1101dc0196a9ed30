"""A run as the commands open it that only read: with what takes longer than they do left out.

pandas: pyarrow imports it at its first array where it is installed, which takes a third of a second, as long as most of `driftcli report`.
pyarrow looks for it once, and again where it is asked for a data frame; so the first look is made while there seems to be none. A format
or probe of another package may still use both. The last collection: at the end of a process Python looks through all that was loaded for
circles to take apart, which takes a quarter of a second and frees only what the system frees anyway.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Sequence
from functools import cache
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

import pyarrow as pa

from driftcli.traces.reader import Run, read_run


class _NoPandas(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def opened_run(path: Path) -> Run:
    """The finished run in a folder; raises RunError where there is none."""
    _do_without()
    return read_run(path)


@cache
def _do_without() -> None:
    """Leave out the last collection, and let pyarrow make its first look for pandas in vain, unless that is imported already."""
    atexit.register(gc.freeze)
    hidden = _NoPandas()
    sys.meta_path.insert(0, hidden)
    try:
        pa.scalar(0)
    finally:
        sys.meta_path.remove(hidden)
