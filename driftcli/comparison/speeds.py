"""Expected speed of two runs, by the times of each one's own steps: each at the draft length that was fastest on half of the prompts, both
held against one another on the other half. Withheld where the times are not of one machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from driftcli.comparison.changes import Change, Scales, change
from driftcli.comparison.comparability import Difference
from driftcli.comparison.numbers import Number
from driftcli.comparison.pairing import Pairing
from driftcli.domain import Half
from driftcli.statistics.costs import BatchCosts
from driftcli.statistics.intervals import Mapped, too_few
from driftcli.statistics.payoff import speed
from driftcli.statistics.pooled import dealt
from driftcli.statistics.walks import EXACT_TEXT, MINIMAL_PROMPTS, Sums

SPEED = "expected_speed"


def speed_change(pairing: Pairing, found: Sequence[Difference]) -> Callable[[Scales], Change] | str:
    """The change of expected speed over plain decoding, ready but for how wide its interval is, or why there is none."""
    if why := untold(pairing, found):
        return why
    costs = [run.costs.deciding for run in pairing.runs if run.costs is not None]
    plans = [{drafts: pairing.plan(place, drafts) for drafts in pairing.lengths(place)} for place in range(len(costs))]
    best = [fastest(own, price) for own, price in zip(plans, costs, strict=True)]
    judging = dealt(np.ones(pairing.units.count), "judging")
    sums = [taken(own[drafts], judging) for own, drafts in zip(plans, best, strict=True)]
    words = f"expected speed at draft length {best[0]} / {best[1]}, half of the prompts"
    number = Number(SPEED, words, speed(costs[0], "judging"))
    by_own = speed(costs[0], "judging"), speed(costs[1], "judging")
    timed_once = costs[0] == costs[1]  # else the times differ even where the guesses do not
    return lambda scales: change(number, pairing.drawn(len(judging)), sums, replace(scales, same=scales.same and timed_once), by_own)


def untold(pairing: Pairing, found: Sequence[Difference]) -> str:
    """Why no speeds are compared, empty where they are."""
    if any(run.costs is None for run in pairing.runs):
        return "not every run has step times; the mitigations probe times them"
    if withheld := [one for one in found if one.of_times]:
        return f"the step times are not alike: {'; '.join(map(str, withheld))}"
    if doubt := next((run.costs.deciding.doubt for run in pairing.runs if run.costs is not None and run.costs.deciding.doubt), ""):
        return doubt
    if any(run.argmax_share < EXACT_TEXT for run in pairing.runs):
        return "the given replies are not the target's own, so no acceptance is claimed on them"
    return too_few(pairing.units.count, 2 * MINIMAL_PROMPTS) if pairing.units.count < 2 * MINIMAL_PROMPTS else ""


def fastest(plans: dict[int, Sums], costs: BatchCosts, half: Half = "selecting") -> int:
    """The draft length with the largest expected speed on the half that selects."""
    some = dealt(next(iter(plans.values()))["anchors"] > 0, half)
    values = {
        drafts: float(speed(costs, half)(Mapped(sums, lambda one: one[some].sum(axis=0, keepdims=True)))[0])
        for drafts, sums in plans.items()
    }
    return max(values, key=lambda drafts: values[drafts])


def taken(sums: Sums, units: np.ndarray) -> Sums:
    """The sums of some units."""
    return {key: values[units] for key, values in sums.items()}
