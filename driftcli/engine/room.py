"""How much memory has room for at once: where it runs out, half is tried, and the run goes on with so much and says so.

What is measured does not depend on how much is done at once but for digits, by which kernels add up numbers in another order.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import torch

Kind = Literal["writing", "drafting"]
KEEPING = "keeping"  # what was computed while replies were written: all of it, or nothing
TOGETHER: Mapping[str, tuple[str, str]] = {  # what there was no room for, and what was done with so many at once, by its kind
    "writing": ("whole batches of {}", "replies were written at once"),
    "drafting": ("as many texts side by side", "tokens of texts were drafted on at once"),
}
FULL = ("not enough memory", "can't allocate memory")  # of a CPU, which raises plain RuntimeErrors
Thing = TypeVar("Thing")
Made = TypeVar("Made")


@dataclass
class Room:
    """How many there was room for at once, by what was done, of what there was not room for as asked."""

    most: dict[str, int] = field(default_factory=dict)

    @property
    def keeps(self) -> bool:
        """Whether there was room for what was kept so far beside all else."""
        return KEEPING not in self.most

    def in_parts(
        self, make: Callable[[Sequence[Thing]], Made], things: Sequence[Thing], what: Kind, let_go: Callable[[], bool] = bool
    ) -> list[Made]:
        """What is made of all things, in as few parts as there is room for; raises what `make` does where not even one has room.

        let_go: gives up what is kept and could be made again, and tells whether there was anything.
        """
        made: list[Made] = []
        at = 0
        while at < len(things):
            size = min(self.most.get(what, len(things)), len(things) - at)
            try:
                made.append(make(things[at : at + size]))
            except (RuntimeError, MemoryError) as error:
                self._do_with_less(error, what, size, 1, let_go)
            else:
                at += size
                continue
            _give_back()
        return made

    def within(self, make: Callable[[int], Made], most: int, least: int, what: Kind, let_go: Callable[[], bool] = bool) -> Made:
        """What is made with at most so many at once, with half as many where memory runs out; raises what `make` does where `least` have no
        room. let_go: as above.
        """
        while True:
            size = max(least, min(self.most.get(what, most), most))
            try:
                return make(size)
            except (RuntimeError, MemoryError) as error:
                self._do_with_less(error, what, size, least, let_go)
            _give_back()

    def _do_with_less(self, error: Exception, what: Kind, size: int, least: int, let_go: Callable[[], bool]) -> None:
        """Keep nothing from now on where something was kept, else try half as many; raises the error where neither may help."""
        if not out_of_memory(error):
            raise error
        if let_go():
            self.most[KEEPING] = 0
        elif size == least:
            raise error
        else:
            self.most[what] = max(least, size // 2)

    def learn(self, found: Mapping[str, int]) -> None:
        """Take over how little there was room for elsewhere."""
        self.most |= {what: min(most, self.most.get(what, most)) for what, most in found.items()}

    def notes(self, asked: int) -> list[str]:
        """That there was not room for as many at once as were asked for, and what follows."""
        return [
            f"memory did not suffice for {TOGETHER[what][0].format(asked)}: at most {most} {TOGETHER[what][1]}, so digits may differ from "
            "those of a run with room for all (--batch-size)"
            for what, most in self.most.items()
            if what in TOGETHER
        ]


def out_of_memory(error: BaseException) -> bool:
    """Whether a device or the host had no memory left."""
    full = isinstance(error, RuntimeError) and any(sign in str(error) for sign in FULL)
    return full or isinstance(error, (torch.OutOfMemoryError, MemoryError))


def _give_back() -> None:
    """Let go of what an attempt that failed has left."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
