"""Tell why a speculative-decoding drafter loses tokens; `open_run` opens a finished run in Python.

Nothing is imported until it is asked for: `import driftcli` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from driftcli.opened import OpenRun, open_run

__all__ = ["OpenRun", "open_run"]


def __getattr__(name: str) -> object:
    """What stands in `__all__`, imported when it is first asked for (PEP 562)."""
    if name in __all__:
        return getattr(import_module("driftcli.opened"), name)
    raise AttributeError(f"module 'driftcli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
