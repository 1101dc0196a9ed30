"""What steps take by themselves on a CPU that others use too, and how much of a core this process gets.

Steps of a few milliseconds are either not interrupted at all or for longer than they take, so their time on the clock says little on a
busy machine. Time of the thread alone is what they take; how long one waits for that is asked for once, for all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time, thread_time

import torch

from driftcli.engine.timing import seconds

SPUN = 0.6  # seconds of counting by which the share of a core is told (chosen by us: many slices of a scheduler)


def own_seconds(step: Callable[[], object], device: torch.device, times: int = 2) -> float:
    """The least that a step took of some times: of this thread's own time on a CPU, on the clock until a device is done elsewhere."""
    return min(_thread_seconds(step) if device.type == "cpu" else seconds(step) for _ in range(times))


def _thread_seconds(step: Callable[[], object]) -> float:
    started = thread_time()
    step()
    return thread_time() - started


def core_share() -> float:
    """Share of a core that this thread gets just now, in (0, 1]."""
    started, began = perf_counter(), thread_time()
    while perf_counter() - started < SPUN:
        pass
    return min(1.0, max(0.01, (thread_time() - began) / (perf_counter() - started)))


def since_start() -> float:
    """Seconds since this process began, where the system tells, else those that it computed."""
    try:
        ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
        up = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return process_time()
    return up - ticks / os.sysconf("SC_CLK_TCK")
