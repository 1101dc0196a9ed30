"""What a drafter said of its deployed chains and what became of them, which is all that `driftcli.statistics.survival` sees."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from driftcli.domain import Absent, Feed
from driftcli.statistics.pooled import NO_ANCHORS
from driftcli.statistics.survival import TOLD, Chains, Told
from driftcli.statistics.walks import EXACT_TEXT
from driftcli.traces.sums import Grid

GIVEN = "the given replies are not the target's own, so nothing is known of what it would accept"
NO_CHAINS = "no deployed chains were drafted, which go on behind their own tokens"
SILENT: Mapping[Told, str] = {
    "draft_prob": "its draft tokens have no probabilities",
    "confidence": "it has no confidence head",
}


def survival(
    feeds: Mapping[Feed, Grid | None] | None, seed: int, some: np.ndarray | None, argmax_share: float
) -> dict[Told, Chains | Absent]:
    """By what says it, the chains of a condition, or why there is nothing to hold against one another. feeds: None where no text has a
    chain. some: which units, (unit,), all for None. argmax_share: of the reply tokens, the target's own choices.
    """
    if argmax_share < EXACT_TEXT:
        return dict.fromkeys(TOLD, Absent(GIVEN))
    every = {told: Absent(NO_ANCHORS) if feeds is None else _chains(feeds, told, seed) for told in TOLD}
    return {told: one if some is None or isinstance(one, Absent) else one.of_units(some) for told, one in every.items()}


def _chains(feeds: Mapping[Feed, Grid | None], told: Told, seed: int) -> Chains | Absent:
    forced, free = feeds["forced"], feeds["free"]
    if forced is None:
        return Absent(NO_ANCHORS)
    if free is None:
        return Absent(NO_CHAINS)
    probability = free.values.get(told)
    if probability is None or np.isnan(probability).any():
        return Absent(SILENT[told])
    return Chains(probability, forced.accepted, forced.unit, forced.units.count, seed)
