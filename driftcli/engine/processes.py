"""The processes that share a run: who this one is, what all agree on, and how they wait for one another.

They are begun by `driftcli diagnose` itself, `accelerate launch` or `torchrun`, which tell each its place by the environment; accelerate
joins them. What they say to one another goes by gloo, on GPUs too: a process that has died is noticed at once, since its connections close.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState

from driftcli.errors import MachineError, UsageError
from driftcli.printable import one_line

PLACE = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")  # what whoever begins several processes tells each
LONGEST_WAIT = timedelta(days=7)  # of a process for the others, which may have much more to measure; one that is dead is noticed at once
LOOKED = 0.2  # seconds between two looks at whether the others are there (chosen by us)
GRACE = 10.0  # seconds that whoever began these processes has to end this one and say why, before it ends by itself (chosen by us)
Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them; rank: its place, from 0, the first of which judges and speaks."""

    rank: int = 0
    count: int = 1
    group: Any = None

    @property
    def first(self) -> bool:
        """Whether this is the one that speaks."""
        return self.rank == 0

    def agreed(self, make: Callable[[], Thing]) -> Thing:
        """What the first process makes, in all of them."""
        told: list[Any] = [make() if self.first else None]
        if self.count > 1:
            self._together(lambda: dist.broadcast_object_list(told, src=0, group=self.group))
        return told[0]  # type: ignore[no-any-return]

    def gathered(self, own: Thing, waiting: Callable[[], None] = lambda: None) -> list[Thing]:
        """What every process gives, in the order of their places, once all have come here. waiting: called now and then until then."""
        found: list[Any] = [own] * self.count
        if self.count > 1:
            self._together(lambda: self._met(waiting))
            self._together(lambda: dist.all_gather_object(found, own, group=self.group))
        return found

    def _met(self, waiting: Callable[[], None]) -> None:
        work = dist.barrier(group=self.group, async_op=True)
        assert work is not None
        while not work.is_completed():
            waiting()
            time.sleep(LOOKED)
        work.wait()

    def _together(self, step: Callable[[], None]) -> None:
        """Do what takes all processes. Raises MachineError where one of them is gone."""
        try:
            step()
        except RuntimeError as error:
            time.sleep(GRACE)
            raise MachineError(
                f"another of the {self.count} processes of this run ended before its work was done ({one_line(str(error), 120)}), expected "
                "all of them to stay; look for what it said"
            ) from error


ALONE = Processes()


def begun_together() -> bool:
    """Whether somebody began several processes, of which this is one."""
    return all(name in os.environ for name in PLACE) and os.environ["WORLD_SIZE"].isdecimal() and int(os.environ["WORLD_SIZE"]) > 1


@contextmanager
def joined(device: str, asked: int | None = None) -> Iterator[tuple[Processes, str]]:
    """The processes of this run, joined inside, and the device that `--device` means for this one of them.

    asked: how many there are to be, None for as many as there are. Raises UsageError where others were begun, or all on one GPU.
    """
    if not begun_together():
        yield ALONE, device
        return
    count = int(os.environ["WORLD_SIZE"])
    if asked not in (None, count):
        raise UsageError(f"--num-processes {asked}: {count} were begun already, by torchrun or accelerate launch; leave it out")
    if ":" in device:
        raise UsageError(f"--device {device}: {count} processes were begun, which cannot all use one device; name auto, cpu or cuda")
    state = PartialState(cpu=device == "cpu" or not torch.accelerator.is_available())
    try:
        group = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)
        own = "cpu" if state.device.type == "cpu" else f"{state.device.type}:{state.device.index}"
        yield Processes(state.process_index, state.num_processes, group), own
    finally:
        state.destroy_process_group()
        state._reset_state()
