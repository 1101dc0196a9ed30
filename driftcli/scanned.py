"""The nouns of a scan: what a checkpoint is, told from its config and the names of its tensors without running it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from driftcli.domain import Sourced


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a checkpoint's config and tensor names tell without running it."""

    subject: str
    state: Literal["ok", "note", "warning"]
    text: str


@dataclass(frozen=True, slots=True)
class Scan:
    """What a drafter's checkpoint is, for a target or for none that was named.

    record: its fields in the declared reading, with their provenance. readings: for every other system all fields of its reading, or
    `refused` alone. pitfalls: the known traps of its layout and producer that it walks into. classes: what each server builds for it.
    """

    drafter: str
    target: str | None
    format: str
    record: Mapping[str, Sourced]
    readings: Mapping[str, Mapping[str, Sourced]]
    checks: tuple[Check, ...]
    pitfalls: tuple[str, ...]
    classes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unread:
    """A checkpoint that is not measured.

    family: its name where it is known. refusal: the sentence that says what it is and what would work. tensors: how many there are by name,
    numbers starred.
    """

    drafter: str
    family: str | None
    refusal: str
    tensors: Mapping[str, int]
