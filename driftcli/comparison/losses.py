"""What each drafter loses from its first draft token to its last, and to what: to feeding on its own state, or to guessing side by side.

Either way a guess is held against a first one: the same drafter's guess of the same token, with the target's states and tokens up to right
before it. What is lost against that is drift where a drafter feeds on its own state, and in a block it is what the tokens of one pass do
not know of one another. A drafter that does neither loses nothing of the kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from driftcli.comparison.pairing import Pairing
from driftcli.domain import Absent, Estimate, PairCard
from driftcli.statistics.curves import (
    MINIMAL_FRESH_ACCEPTED,
    block_independence,
    forced_accuracy,
    fresh_accepted,
    fresh_accuracy,
    self_feeding_tax,
)
from driftcli.statistics.walks import Sums

To = Literal["feeding on its own state", "guessing side by side"]


@dataclass(frozen=True)
class Losses:
    """Of one drafter. right, first, lost: by depth, depth 1 first, the share of right guesses in a chain or block, of first guesses of the
    same tokens, and of the latter's right ones that the chain or block loses. accepted: the share of accepted draft tokens lost, at most.
    to: what they are lost to; None where a drafter's guesses have no first ones to be held against, and `lost` says why.
    """

    name: str
    to: To | None
    right: Sequence[Estimate | Absent]
    first: Sequence[Estimate | Absent]
    lost: Sequence[Estimate | Absent]
    accepted: Estimate | Absent


def losses(pairing: Pairing, names: Sequence[str]) -> list[Losses]:
    """Of the drafter of every run, on the prompts that all share, with intervals for all of them at once."""
    return [_of(pairing, place, name) for place, name in enumerate(names)]


def lost_to(pair: PairCard) -> To | None:
    """What a pair's guesses lose against first ones by."""
    if pair.guesses_side_by_side:
        return "guessing side by side"
    return "feeding on its own state" if pair.no_recursion is None else None


def _of(pairing: Pairing, place: int, name: str) -> Losses:
    pair, sums, draws = pairing.runs[place].pair, pairing.sums[place], pairing.draws
    right = draws.estimates(sums, forced_accuracy)
    if (to := lost_to(pair)) is None:
        assert pair.no_recursion is not None
        nothing = Absent(pair.no_recursion)
        return Losses(name, None, right, [nothing] * pairing.depth, [nothing] * pairing.depth, nothing)
    first, tries = draws.estimates(sums, fresh_accuracy), len(pairing.runs)
    return Losses(name, to, right, first, draws.estimates(sums, block_independence, tries), _accepted(pairing, sums, tries))


def fresh_an_anchor(sums: Sums) -> float:
    """Fresh draft tokens that are accepted an anchor, over all units."""
    return float(fresh_accepted({name: sums[name].sum() for name in ("fresh_accepted", "anchors")}))


def _accepted(pairing: Pairing, sums: Sums, tries: int) -> Estimate | Absent:
    if fresh_an_anchor(sums) < MINIMAL_FRESH_ACCEPTED:
        return Absent(f"fewer than {MINIMAL_FRESH_ACCEPTED} first guesses in a row are right an anchor, of which a share is noise")
    return pairing.draws.estimate(sums, self_feeding_tax, tries)
