"""What the machine throws, in one sentence: a full disk, no memory, a closed pipe, a library that does not load or gives up inside.

These are told by what they are, never by a broad `except`: a bug of ours stays a traceback. What cannot be imported here without loading
something heavy (Arrow, torch, the core of tokenizers) is known by the name of its class.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Literal

from driftcli.errors import MachineError, Stopped
from driftcli.printable import one_line

INTERRUPTED = 130  # 128 + SIGINT, as shells have it and typer ends
LONGEST_REASON = 300  # characters of a foreign message that are repeated (chosen by us)
OWN = ("driftcli", "probes")
BY_CLASS = {
    "pyarrow.lib.ArrowException": "Arrow could not go on",
    "pyo3_runtime.PanicException": "a library's core gave up",  # derives from BaseException; tokenizers and safetensors raise it
    "torch.OutOfMemoryError": "no memory is left",
    "torch.AcceleratorError": "the device failed",
}
BY_WORDS = {  # torch raises plain RuntimeErrors for these
    "not enough memory": "no memory is left",
    "can't allocate memory": "no memory is left",
    "out of memory": "no memory is left",
    "CUDA error": "the device failed",
}


class Net:
    """Around a whole command: what the machine throws leaves as MachineError, anything else as it is."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> Literal[False]:
        if error is not None and (what := machine_failure(error)):
            raise MachineError(f"{what}; what was measured before is kept, so put this right and repeat the command") from error
        return False


class Resumable:
    """Around the work on one run folder: what the machine throws, or Ctrl-C, leaves as Stopped, which knows the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> Literal[False]:
        if isinstance(error, KeyboardInterrupt):
            raise Stopped("interrupted", self._folder, INTERRUPTED) from error
        if error is not None and (what := machine_failure(error)):
            raise Stopped(what, self._folder, MachineError.exit_code) from error
        return False


def machine_failure(error: BaseException) -> str:
    """What happened, where the machine or a library beneath us is the cause; empty for anything else, a closed pipe among it."""
    if isinstance(error, BrokenPipeError):
        return ""
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, MemoryError):
        return _because("no memory is left", error)
    if isinstance(error, ImportError):
        own = (error.name or "").split(".")[0] in OWN
        return "" if own else _because("a library cannot be loaded", error)
    names = [f"{one.__module__}.{one.__qualname__}" for one in type(error).__mro__]
    if known := next((BY_CLASS[name] for name in names if name in BY_CLASS), ""):
        return _because(known, error)
    words = BY_WORDS if type(error) is RuntimeError else {}
    return next((_because(said, error) for sign, said in words.items() if sign in str(error)), "")


def _of_system(error: OSError) -> str:
    where = "" if error.filename is None else f"{error.filename}: "
    return f"{where}{error.strerror or one_line(str(error), LONGEST_REASON) or 'the system refused to read or write'}"


def _because(what: str, error: BaseException) -> str:
    said = one_line(str(error), LONGEST_REASON)
    return f"{what} ({said})" if said else what
