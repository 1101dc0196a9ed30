"""What the files of a block drafter leave open: wirings of one change each, by which engines differ or that an export may have lost."""

from __future__ import annotations

from collections.abc import Iterator

from driftcli.conditions import Wiring
from driftcli.domain import System
from driftcli.families.block.declaration import BlockDeclaration


def alternatives(d: BlockDeclaration, system: System | None = None) -> tuple[Wiring, ...]:
    """Every one-change wiring of a drafter as a system runs it."""
    return tuple(_open(d, system))


def _open(d: BlockDeclaration, system: System | None) -> Iterator[Wiring]:
    reading, layers = d.reading(system), d.head.target.layers
    for shift in (1, -1):  # ids that name what a layer puts out, or what it takes in
        moved = tuple(boundary + shift for boundary in reading.capture.value)
        if min(moved) >= 0 and (layers is None or max(moved) <= layers):
            yield Wiring(capture=moved)
    yield Wiring(rotation="halves" if reading.rotation.value == "pairs" else "pairs")
