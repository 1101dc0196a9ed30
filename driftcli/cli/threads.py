"""Threads of the CPU: as many as this process may use, by its affinity and by the quota of its control group.

Cores that are there and are not ours cost more than they give: threads that wait for one that is not running. For the same reason waiting
threads sleep (`OMP_WAIT_POLICY`), which OpenMP must be told before torch is loaded; what the environment says already goes first.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def let_waiting_threads_sleep() -> None:
    """Tell OpenMP that threads without work give their core away; to be called before torch is loaded."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def allowed_threads() -> int:
    """Threads that this process may use at once: those that OMP_NUM_THREADS names, else its cores, but no more than its quota of them."""
    if (named := os.environ.get("OMP_NUM_THREADS", "")).isdecimal() and int(named):
        return int(named)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, quota(GROUPS, OWN_GROUPS))))


def quota(groups: Path, own: Path) -> float:
    """Cores' worth of time that the control groups of a process leave it, the least of its own and those around it; infinite without any.

    groups: where groups are mounted, version 2 or 1. own: the file that names the process's groups, a line each.
    """
    found = [math.inf]
    for line in _lines(own):
        _, kinds, path = [*line.split(":", 2), "", ""][:3]
        root = groups / "cpu" if "cpu" in kinds.split(",") else groups
        inside = (root / path.lstrip("/"), *(root / path.lstrip("/")).parents)
        found += [_share(folder) for folder in inside if folder == root or root in folder.parents]
    return min(found)


def _share(group: Path) -> float:
    """The quota of one group over its period, infinite where it has none."""
    words = " ".join(_lines(group / "cpu.max")).split() or [
        *_lines(group / "cpu.cfs_quota_us"),
        *_lines(group / "cpu.cfs_period_us"),
    ]
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() else math.inf


def _lines(file: Path) -> list[str]:
    """The lines of a file of the system, none where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads inside; as before outside."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
