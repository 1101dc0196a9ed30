"""The numbers of a report's headline that are compared, each with the side on which it is better and how its changes are measured.

Lengths, speeds and sizes change by a share of themselves, so the band is a share of the mean of both; shares, such as accuracy, change in
points. Shares of shares are not told: 2% of an accuracy of 3% would be nobody's band.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from driftcli.comparison.words import Better
from driftcli.statistics import curves
from driftcli.statistics.curves import first_by_certainty, over_expected
from driftcli.statistics.intervals import Statistic, tokens_a_round, within
from driftcli.statistics.survival import mean_calibration_error
from driftcli.statistics.walks import Floats, Sums, acceptance_length, ratio

Scale = Literal["relative", "points"]


@dataclass(frozen=True, slots=True)
class Number:
    """A number that is compared; statistic: (draw,) of one run's sums. name: its key in JSON. of_state: it takes a drafter that feeds on
    its own hidden state.
    """

    name: str
    words: str
    statistic: Statistic
    better: Better = "higher"
    scale: Scale = "relative"
    of_state: bool = False


def length(*, claimed: bool) -> Number:
    """The number that decides: acceptance length over the walk, or what it is called on given replies."""
    name = "acceptance length" if claimed else "text match length"
    return Number(name.replace(" ", "_"), name, curves.walk_acceptance_length)


WHOLE = Number("emitted_per_round", "tokens a round, whole replies", curves.emitted_per_round)
SURVIVAL_ERROR = "survival_error"
SAMPLED = Number("acceptance_length_sampled_drafts", "the same of sampled draft tokens", curves.sampled_length)


def others(depth: int) -> Sequence[Number]:
    """What else is compared of the anchors of both runs, for chains of so many draft tokens."""
    found = [
        Number("accepted_drafts", "accepted draft tokens a round", curves.accepted_drafts),
        Number("accuracy_1", "accuracy at depth 1", _at(curves.forced_accuracy, 1), scale="points"),
    ]
    if depth > 1:  # at depth 1 nothing is fed back yet
        found += [
            Number(f"accuracy_{depth}", f"accuracy at depth {depth}", _at(curves.forced_accuracy, depth), scale="points"),
            Number("handoff", "hand-off", curves.handoff, "lower", "points", of_state=True),
            Number("self_feeding_tax", "self-feeding tax", curves.self_feeding_tax, "lower", "points", of_state=True),
            Number("rms_factor", f"RMS at depth {depth}, times apart from 1", rms_factor(depth), "lower", of_state=True),
        ]
    if depth > 2:  # at depth 2 it is 0 by definition
        found.append(
            Number(f"compounding_{depth}", f"compounding at depth {depth}", _at(curves.compounding, depth), "lower", "points", True)
        )
    found.append(Number(SURVIVAL_ERROR, "calibration error of what its probabilities promise", mean_calibration_error, "lower", "points"))
    return found


def lost_along(depth: int) -> Number:
    """Right first guesses that a chain or a block loses, whatever to: what two kinds of drafters are held against one another by."""
    return Number(
        f"lost_{depth}", f"right guesses lost at depth {depth}, of first ones", _at(curves.block_independence, depth), "lower", "points"
    )


def _at(statistic: Statistic, depth: int) -> Statistic:
    return within(0 if statistic is curves.forced_accuracy else -1, 1)(lambda sums: statistic(sums)[:, depth - 1])


def rms_factor(depth: int) -> Statistic:
    """By what factor the chain's state is larger or smaller than the target-fed one at a depth: at least 1, which is best; (draw,)."""

    def factor(sums: Sums) -> Floats:
        larger = curves.rms_ratio(sums)[:, depth - 1]
        found: Floats = np.maximum(larger, ratio(np.ones_like(larger), larger))
        return found

    return factor


def length_at(drafts: int) -> Statistic:
    """Acceptance length of chains of so many draft tokens, each on its own walk; (draw,)."""

    @tokens_a_round(lambda _: drafts + 1.0)
    def at(sums: Sums) -> Floats:
        return acceptance_length(sums["rounds_by_length"][:, drafts - 1], sums["kept_by_length"][:, drafts - 1])

    return at


def effect(name: str, words: str) -> Number:
    """What a change of the text leaves of the accepted draft tokens, as a share of those without it; of `beside` two sums."""
    return Number(name, words, lambda sums: ratio(_kept(sums, "with"), _kept(sums, "without")), scale="points")


def domain_effect(category: str) -> Number:
    """Right first guesses in a category over those expected from other prompts where the target is as certain; of `beside` two sums."""

    def over(sums: Sums) -> Floats:
        own, rest = ({key: sums[f"{side}/{key}"] for key in CERTAINTY} for side in ("with", "without"))
        return over_expected(first_by_certainty(own), first_by_certainty(rest))

    return Number(f"domain:{category}", f"domain: {category}, right first guesses of the expected ones", over, scale="points")


CERTAINTY = ("first_by_certainty", "first_right_by_certainty")
KEPT = ("rounds_by_length", "kept_by_length")


def beside(with_it: Sums, without: Sums, keys: Sequence[str]) -> Sums:
    """Sums of the same units in two states, as `effect` and `domain_effect` read them."""
    sides: Mapping[str, Sums] = {"with": with_it, "without": without}
    return {f"{side}/{key}": sums[key] for side, sums in sides.items() for key in keys}


def _kept(sums: Sums, side: str) -> Floats:
    return ratio(sums[f"{side}/kept_by_length"][:, -1], sums[f"{side}/rounds_by_length"][:, -1])
