"""What a diagnosis is at, on stderr: a bar on a terminal; elsewhere a line a batch, and one at least every `EVERY` seconds, whatever takes
long, so that a log never falls silent.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from time import monotonic
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from driftcli.printable import printable
from driftcli.report.evidence import spent

EVERY = 25.0  # seconds after which a line is said where none was, off a terminal (chosen by us: nobody waits for more than 30)
LOOKED = 1.0  # seconds between two looks at the clock (chosen by us)


class Told:
    """Tells what is done now, how far it is, and about how long the rest takes by the pace of this session."""

    def __init__(self, console: Console, clock: Callable[[], float] = monotonic) -> None:
        self._console, self._clock = console, clock
        self._started = self._spoken = clock()
        self._doing, self._left, self._total = "starting", "", 0
        self._first, self._done, self._written = -1.0, 0.0, -1.0
        self._measuring = self._started
        self._bar: Progress | None = None
        self._over = Event()

    def __enter__(self) -> Told:
        if not self._console.is_terminal:
            Thread(target=self._beats, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> Literal[False]:
        self._over.set()
        self._end_bar()
        return False

    def say(self, line: str, now: str = "") -> None:
        """Print a line. now: what begins with it, else that goes on which did before."""
        self._end_bar()
        self._doing, self._spoken = now or self._doing, self._clock()
        self._console.print(printable(line), soft_wrap=True)

    def now(self, what: str) -> None:
        """What begins now, without a line of its own."""
        self._end_bar()
        self._doing, self._total = what, 0

    def __call__(self, done: float, total: int, now: str) -> None:
        """Show that `done` of `total` prompts x conditions are measured and what runs now, nothing where a batch has just ended."""
        if self._first < 0:
            self._first, self._measuring = done, self._clock()
        ended = not now and done != self._written
        self._doing, self._done, self._total = now or self._doing, done, total
        self._left = time_left(done - self._first, total - done, self._clock() - self._measuring)
        if self._console.is_terminal:
            self._move_bar()
        elif ended:
            self._written, self._spoken = done, self._clock()
            self._console.print(self._counted())

    def beat(self) -> None:
        """Say what runs now where nothing was said for long."""
        if self._clock() - self._spoken >= EVERY:
            self._spoken = self._clock()
            counted = f"{self._counted()}; " if self._total else ""
            self._console.print(printable(f"{counted}{self._doing}, {spent(self._clock() - self._started)} so far"), soft_wrap=True)

    def _beats(self) -> None:
        while not self._over.wait(LOOKED):
            self.beat()

    def _counted(self) -> str:
        return f"{int(self._done)} of {self._total} prompts x conditions measured{', ' * bool(self._left)}{self._left}"

    def _move_bar(self) -> None:
        if self._bar is None:
            left = TextColumn("{task.fields[left]}")
            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), left)
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.add_task("", total=None, left="")
            self._bar.start()
        (task,) = self._bar.task_ids
        self._bar.update(task, completed=self._done, total=self._total, description=printable(self._doing), left=self._left)

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def time_left(done: float, open: float, seconds: float) -> str:
    """How long `open` more will take when `done` took `seconds`; nothing before the first is done or after the last."""
    return "" if done < 1 or not open else f"about {spent(seconds / done * open)} left"
