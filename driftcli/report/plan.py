"""A plan on a terminal and as JSON: what a diagnosis would measure, what that takes, and what the machine has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from textwrap import fill

from driftcli.printable import counted, printable

SCHEMA = 1
UNITS = ("B", "KB", "MB", "GB", "TB")
WIDTH = 100  # columns of a line
LABEL = 12  # columns of what a line is about
LATER = "later rounds are decided by numbers: the wiring search goes on where another wiring fits better, and what helps is tried together"


@dataclass(frozen=True, slots=True)
class Range:
    """A number as expected, and at most: with replies as long as they may be, and one later round of every probe that has some."""

    expected: float
    most: float


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is: threads and the share of a core that they get now, bytes of memory where the models run, and on the disk; None where
    the system does not tell.
    """

    device: str
    threads: int
    core_share: float
    memory: int | None
    disk: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a diagnosis would take.

    categories: of the prompts that are used, with their number. conditions: known ones by probe. later: conditions of later rounds, at
    most. written, read, drafted, chained: tokens that the target writes and reads, that the drafter proposes in forced chains, and queries
    of all its chains. weights: bytes as stored by model and dtype. memory: bytes by part, with the peak. disk: bytes. seconds: of all, with
    their parts as expected.
    """

    target: str
    drafter: str
    dtype: str
    offered: int
    used: int
    categories: Mapping[str, int]
    conditions: Mapping[str, int]
    later: int
    replies: Range
    written: Range
    read: Range
    drafted: Range
    chained: Range
    weights: Mapping[str, Mapping[str, int]]
    memory: Mapping[str, int]
    disk: Range
    seconds: Range
    parts: Mapping[str, float]
    machine: Machine
    notes: Sequence[str]


def render_json(plan: Plan) -> str:
    """All of a plan; indented, ASCII only, without a trailing newline."""
    return json.dumps({"schema": SCHEMA, **asdict(plan), "later_rounds": LATER}, indent=2, allow_nan=False)


def render(plan: Plan) -> str:
    """A plan for people, a line a matter."""
    total = sum(plan.conditions.values())
    by_probe = ", ".join(f"{name} {count}" for name, count in plan.conditions.items())
    stored = "; ".join(f"{model} {_stored(by)}" for model, by in plan.weights.items())
    parts = ", ".join(f"{name} {size(held)}" for name, held in plan.memory.items() if name != "peak" and held)
    times = ", ".join(f"{name} {clock(seconds)}" for name, seconds in plan.parts.items() if seconds >= 1)
    lines = [
        ("prompts", f"{plan.used} of {plan.offered} ({', '.join(f'{name} {count}' for name, count in plan.categories.items())})"),
        ("conditions", f"{total} known ({by_probe}); up to {plan.later} more in later rounds"),
        ("target", f"writes {_tokens(plan.written)} in {_count(plan.replies)} replies, reads {_tokens(plan.read)}"),
        ("drafter", f"proposes {_tokens(plan.drafted)} in forced chains, takes {_count(plan.chained)} further steps in all chains"),
        ("weights", f"as stored: {stored}; computed in {plan.dtype}"),
        ("memory", f"peak {_held(plan.memory['peak'], plan.machine.memory)} ({parts})"),
        ("disk", f"{_held(round(plan.disk.expected), plan.machine.disk)}; at most {size(plan.disk.most)}"),
        ("time", f"about {clock(plan.seconds.expected)}, at most {clock(plan.seconds.most)} ({times})"),
        ("machine", _machine(plan.machine)),
    ]
    notes = [("", note) for note in [*plan.notes, *([LATER] if plan.later else [])]]
    shown = (
        fill(printable(text), WIDTH, initial_indent=f"{name:{LABEL}}", subsequent_indent=" " * LABEL, break_on_hyphens=False)
        for name, text in [*lines, *notes]
    )
    return "\n".join([f"{printable(plan.target)}  <-  {printable(plan.drafter)}", *shown])


def _stored(by_dtype: Mapping[str, int]) -> str:
    """Bytes of a model's own weights."""
    return ", ".join(f"{dtype} {size(held)}" for dtype, held in by_dtype.items()) or "none of its own"


def _machine(machine: Machine) -> str:
    each = " each" * (machine.threads > 1)
    busy = f", with about {machine.core_share:.0%} of a core{each}: the rest is busy just now" if machine.core_share < 0.9 else ""
    return f"{machine.device}, {counted(machine.threads, 'thread')}{busy}"


def _held(wanted: int, there: int | None) -> str:
    if there is None:
        return size(wanted)
    return f"{size(wanted)} of {size(there)} free" + (": TOO LITTLE" if wanted > there else "")


def _count(number: Range) -> str:
    few, most = f"{number.expected:,.0f}", f"{number.most:,.0f}"
    return few if few == most else f"about {few}, at most {most},"


def _tokens(number: Range) -> str:
    return f"{_count(number).rstrip(',')} tokens"


def size(number: float) -> str:
    """Bytes in the largest unit that leaves a number of 1 or more."""
    unit = 0
    while number >= 1000 and unit < len(UNITS) - 1:
        number, unit = number / 1000, unit + 1
    return f"{number:.0f} {UNITS[unit]}" if unit < 2 or number >= 100 else f"{number:.1f} {UNITS[unit]}"


def clock(seconds: float) -> str:
    """A time as precisely as it is known: seconds, minutes, or hours and minutes."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
