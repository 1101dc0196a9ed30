"""The card of a pair, whether it was loaded or only its headers were read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from driftcli.conditions import Wiring
from driftcli.domain import ModelCard, PairCard, Sourced
from driftcli.target.target import Target
from driftcli.texts.rendering import rendering_facts

BY_DEPTH = "each depth has its own weights, so there is no chain of one head on its own state"
ONE_PASS = "it guesses a block of tokens in one pass and feeds no state of its own back"
NO_STATE = "a causal language model feeds no state to its next step, so on the target's tokens chain and control are one computation"
HOLDS_NEXT = ("eagle3", "eagle", "peagle", "mtp", "feed-forward")  # families whose row holds the token behind its position


@dataclass(frozen=True)
class Told:
    """What a family tells of a drafter."""

    family: str
    record: Mapping[str, Sourced]
    no_recursion: str | None = None
    readings: Mapping[str, Mapping[str, Sourced]] = field(default_factory=dict)
    alternatives: tuple[Wiring, ...] = ()
    notes: tuple[str, ...] = ()


def pair_card(target: Target, of_target: ModelCard, of_drafter: ModelCard, told: Told) -> PairCard:
    """The card of a target, of which the tokenizer and the facts are known, and of what a family tells of the drafter."""
    return PairCard(
        target=of_target,
        drafter=of_drafter,
        family=told.family,
        record=told.record,
        token_offset=1 if told.family in HOLDS_NEXT else 0,
        no_recursion=told.no_recursion,
        notes=told.notes,
        readings=told.readings,
        alternatives=told.alternatives,
        rendering=rendering_facts(target.tokenizer),
        target_positions=target.facts.positions,
    )
