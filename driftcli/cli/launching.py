"""Several processes for one diagnosis on this machine: how many, begun as `torchrun` begins its own, watched and ended together.

Each is told its place by the environment. The first writes to where this one does; of the others only the last words count, where one ends
before its time: then all are ended, and it is said which and why. What they wrote is whole batches, from which the same command goes on.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO

from driftcli.cli.net import INTERRUPTED
from driftcli.cli.request import Request
from driftcli.cli.threads import allowed_threads
from driftcli.errors import MachineError, UsageError
from driftcli.printable import one_line

LOOKED = 0.1  # seconds between two looks at the processes (chosen by us)
OWN_WORDS = (
    5.0  # seconds that the first has to say by itself what ended another one too, such as a target that cannot be read (chosen by us)
)
STOPPING = 20.0  # seconds that the first has, after Ctrl-C, to say how to go on (chosen by us)
ENDING = 5.0  # seconds that processes have to end before they are killed (chosen by us)
LAST_WORDS = 2000  # bytes of what a process said last that are looked at (chosen by us)


@dataclass(frozen=True)
class Begun:
    """One of the processes; said: its stderr, None for the first, which writes to this one's."""

    process: subprocess.Popen[bytes]
    said: IO[bytes] | None

    def last_words(self) -> str:
        """The last line that it said, if it said any."""
        if self.said is None:
            return ""
        self.said.seek(max(0, self.said.seek(0, os.SEEK_END) - LAST_WORDS))
        lines = self.said.read().decode(errors="replace").splitlines()
        return one_line(lines[-1].removeprefix("error: "), 500) if lines else ""


def diagnose_together(request: Request, words: Sequence[str]) -> None:
    """Have several processes do what the words of the command line ask, where there are to be several, and leave as the first of them does;
    return where this process is to do it: alone, or as one of several.

    Raises UsageError where several cannot do it, and MachineError where one ended before its time.
    """
    if (count := _count(request)) > 1:
        raise SystemExit(_run(words, count, request.threads or allowed_threads()))


def _count(request: Request) -> int:
    """How many processes this one is to begin."""
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:  # it was begun as one of several
        return 1
    asked = request.num_processes
    if asked is not None and asked > 1 and request.engine == "vllm":
        raise UsageError(
            f"--num-processes {asked}: vLLM spreads the target over GPUs by itself; leave it out, and name "
            "--engine-args '{\"tensor_parallel_size\": N}'"
        )
    if asked is not None or request.engine == "vllm" or request.device not in ("auto", "cuda"):
        return asked or 1
    from driftcli.target.gpus import gpus_for

    return gpus_for(request.target, remote_code=request.remote_code)


def _run(words: Sequence[str], count: int, threads: int) -> int:
    """Begin the processes and wait for them; the exit code of the first."""
    with ExitStack() as files:
        begun = _begun(words, _environments(count, threads), files)
        try:
            return _watched(begun)
        except KeyboardInterrupt:
            begun[0].process.send_signal(signal.SIGINT)
            return _ended_within(begun[0], STOPPING) or INTERRUPTED
        finally:
            _end(begun)


def _environments(count: int, threads: int) -> list[dict[str, str]]:
    """What each process is told: where it is among how many, where modules are found here, and how many threads it may use."""
    together = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port()}
    path = os.pathsep.join(place or os.getcwd() for place in sys.path)
    shared = {**os.environ, **{name: str(value) for name, value in together.items()}, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def _begun(words: Sequence[str], environments: Sequence[Mapping[str, str]], files: ExitStack) -> list[Begun]:
    """The processes, in a session of their own each; what they read from ends when this one does."""
    line, found = [sys.executable, "-P", "-m", "driftcli.cli.begun", *words], list[Begun]()
    for environment in environments:
        said, nothing = (_aside(files), subprocess.DEVNULL) if found else (None, None)
        process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=nothing, stderr=said, env=environment, start_new_session=True)
        found.append(Begun(process, said))
    return found


def _aside(files: ExitStack) -> IO[bytes]:
    """A file without a name."""
    return files.enter_context(TemporaryFile())


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _watched(begun: Sequence[Begun]) -> int:
    """The exit code of the first once it has ended; MachineError where another ended before its time, or the first was killed."""
    first, *others = begun
    while (code := first.process.poll()) is None:
        if failed := next((one for one in others if one.process.poll()), None):
            own = _ended_within(first, OWN_WORDS) if failed.process.returncode > 0 else None
            if own is None or own < 0:
                raise _lost(begun, failed)
            return own
        time.sleep(LOOKED)
    if code < 0:
        raise _lost(begun, first)
    return code


def _lost(begun: Sequence[Begun], one: Begun) -> MachineError:
    """That a process ended before its time, and as far as it can be told why."""
    code, words = one.process.returncode, one.last_words()
    how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"
    said = f" and said: {words}" if words else ", expected all to stay to the end"
    return MachineError(
        f"process {begun.index(one) + 1} of {len(begun)} {how}{said}; whole batches are kept, and the same command goes on from there, "
        "with any number of processes"
    )


def _ended_within(one: Begun, seconds: float) -> int | None:
    """The exit code of a process that ends in time."""
    with suppress(subprocess.TimeoutExpired):
        return one.process.wait(seconds)
    return None


def _end(begun: Sequence[Begun]) -> None:
    """End all that are still there: they end when this one has nothing more to tell them, or else are killed."""
    for one in begun:
        assert one.process.stdin is not None
        one.process.stdin.close()
    for one in begun:
        if _ended_within(one, ENDING) is None:
            one.process.kill()
            one.process.wait()
