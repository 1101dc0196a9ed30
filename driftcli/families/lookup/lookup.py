"""A lookup as drafter: it has no weights, and proposes what followed the last tokens of a text where they stood in it before.

vLLM calls it `ngram`, transformers prompt lookup. What it finds is the rule of `driftcli.traces.floors`, by which any other drafter is
held against it: one command measures it like a drafter, so that `compare` ranks the others against its line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar

from driftcli.domain import ModelCard, Sourced
from driftcli.errors import UsageError

LOOKUP = "lookup"  # names it in the place of a drafter
FEWEST, MOST, LONGEST = 1, 3, 64  # tokens looked up unless told: as Saxena's prompt lookup decoding (2023) does; most that may be (ours)
COPIES = "a lookup copies tokens from the text and has neither states nor attention, so there is nothing in it that could drift"


@dataclass(frozen=True, slots=True)
class Lookup:
    """How many of a text's last tokens are looked up, the most first. It reads none of the target's streams."""

    fewest: int = FEWEST
    most: int = MOST
    alike: ClassVar = "a lookup copies tokens from the text"
    no_files: ClassVar = "a lookup has no files and no weights, so there is nothing to scan; driftcli diagnose measures it"

    @property
    def name(self) -> str:
        """As the command line names it, in full."""
        return f"{LOOKUP}:{self.fewest},{self.most}"

    @property
    def card(self) -> ModelCard:
        """What identifies it in a run."""
        return ModelCard(self.name, None, LOOKUP, sha256(self.name.encode()).hexdigest()[:16])

    @property
    def record(self) -> dict[str, Sourced]:
        """Its fields."""
        return {"format": Sourced("lookup in the text so far", "command line"), "tokens": Sourced((self.fewest, self.most), "command line")}


def lookup_named(name: str) -> Lookup | None:
    """The lookup that a drafter's name means, None for any other drafter; UsageError for one that looks up no such number of tokens."""
    if name != LOOKUP and not name.startswith(f"{LOOKUP}:"):
        return None
    if name == LOOKUP:
        return Lookup()
    numbers = re.fullmatch(rf"{LOOKUP}:([0-9]{{1,3}}),([0-9]{{1,3}})", name)
    found = Lookup(int(numbers[1]), int(numbers[2])) if numbers else None
    if found is None or not 1 <= found.fewest <= found.most <= LONGEST:
        raise UsageError(
            f"--drafter {name}: expected the fewest and the most tokens that are looked up, from 1 to {LONGEST}, as {Lookup().name}; or "
            f"{LOOKUP} alone, which means that"
        )
    return found
