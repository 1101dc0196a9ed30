"""Which drafter for these texts: all of them, a lookup and none ranked on the same prompts, by speed and by accepted draft tokens.

By accepted tokens all draft equally many, so that every round verifies as much; by speed each drafts as many as were fastest for it on half
of the prompts, and is held against the others on the other half. Every pair is compared, with intervals for all pairs at once (Bonferroni).
A place is a range: behind as many as are surely better, before as many as are surely worse. Two that are not told apart share places.
Source: Klein, Wright and Wieczorek 2020 (J. R. Stat. Soc. A 183), with intervals of paired differences in place of single ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from driftcli.comparison.changes import Change, Scales, change
from driftcli.comparison.comparability import Difference
from driftcli.comparison.contestants import Contestant, contestants
from driftcli.comparison.losses import Losses, losses
from driftcli.comparison.numbers import length, length_at
from driftcli.comparison.pairing import Pairing, paired
from driftcli.comparison.pairwise import comparable
from driftcli.comparison.speeds import fastest, taken, untold
from driftcli.domain import Absent, Estimate
from driftcli.statistics.grades import more_prompts
from driftcli.statistics.intervals import Bootstrap, Statistic, mirrored
from driftcli.statistics.payoff import speed
from driftcli.statistics.pooled import dealt
from driftcli.statistics.walks import Floats, Sums
from driftcli.traces.reader import Run

Gaps = dict[tuple[int, int], Estimate | Absent]  # of the first of two contestants over the second


@dataclass(frozen=True, slots=True)
class Entrant:
    """What of a contestant is ranked: its sums and the number that they come to. drafts: tokens a round."""

    contestant: Contestant
    drafts: int
    sums: Sums
    statistic: Statistic


@dataclass(frozen=True, slots=True)
class Place:
    """A contestant in a ranking. first, last: the places that it may have; drafts: tokens a round; like: those not told from it.

    more_prompts: about how many more would tell it from all of these, None where it is told or no number that could be named would do.
    """

    name: str
    family: str
    drafts: int
    value: Estimate | Absent
    first: int
    last: int
    like: tuple[str, ...]
    more_prompts: int | None


@dataclass(frozen=True)
class Ranking:
    """Contestants by accepted tokens and, where steps were timed, by expected speed, best first. untimed: why there are no speeds.

    against_first: the acceptance length of each run but the first, held against that one's, with intervals for all of them at once.
    losses: what each run's drafter loses along a chain or block, and to what.
    """

    pairing: Pairing
    names: tuple[str, ...]
    by_length: Sequence[Place]
    by_speed: Sequence[Place]
    untimed: str
    against_first: Sequence[Change]
    losses: Sequence[Losses]
    band: float
    differences: Sequence[Difference]

    @property
    def deciding(self) -> Sequence[Place]:
        """What answers: speeds where they are known."""
        return self.by_speed or self.by_length

    @property
    def forced(self) -> list[Difference]:
        """What differs and would have refused the ranking."""
        return [one for one in self.differences if one.effect == "refuses"]


def rank(runs: Sequence[Run], names: tuple[str, ...], band: float, *, force: bool = False) -> Ranking:
    """Drafters of one target ranked; raises RunError where the runs are not comparable, unless `force`, or share too few prompts."""
    found = comparable(runs, force=force, any_depth=True)
    pairing = paired(runs, force=force)
    asked = contestants(pairing, names)
    lengths = [_walking(one, pairing.depth) for one in asked]
    untimed = untold(pairing, found)
    speeds = [] if untimed else [_timed(one, pairing) for one in asked if one.costs is not None or not one.drafts]
    by_length, by_speed = (_placed(entrants, pairing.drawn) for entrants in (lengths, speeds))
    return Ranking(pairing, names, by_length, by_speed, untimed, _against_first(pairing, band), losses(pairing, names), band, found)


def _against_first(pairing: Pairing, band: float) -> list[Change]:
    rest = range(1, len(pairing.runs))
    scales = [Scales(band, len(rest), pairing.same_guesses(0, place)) for place in rest]
    return [
        change(length(claimed=True), pairing.draws, (pairing.sums[0], pairing.sums[place]), own)
        for place, own in zip(rest, scales, strict=True)
    ]


def _walking(one: Contestant, depth: int) -> Entrant:
    """A contestant at the draft length of all, on all prompts."""
    return Entrant(one, depth, one.lengths, length_at(depth)) if one.drafts else Entrant(one, 0, one.lengths, plain)


def plain(sums: Sums) -> Floats:
    """Tokens a step, and the speed, of plain decoding: 1 whatever the prompts; (draw,)."""
    return np.ones(len(sums[next(iter(sums))]))


def _timed(one: Contestant, pairing: Pairing) -> Entrant:
    """A contestant at the draft length that is fastest for it on one half of the prompts, on the other half."""
    judging = dealt(np.ones(pairing.units.count), "judging")
    if not one.drafts:
        return Entrant(one, 0, taken(one.plan(0), judging), plain)
    assert one.costs is not None
    plans = {drafts: one.plan(drafts) for drafts in one.told or range(1, pairing.depth + 1)}
    best = fastest(plans, one.costs)
    return Entrant(one, best, taken(plans[best], judging), speed(one.costs, "judging"))


def _placed(entrants: Sequence[Entrant], drawn: Callable[[int], Bootstrap]) -> list[Place]:
    """The entrants, best first, each with the places that it may have."""
    if not entrants:
        return []
    draws = drawn(len(next(iter(entrants[0].sums.values()))))
    pairs = list(combinations(range(len(entrants)), 2))
    gaps: Gaps = {}
    for one, other in pairs:
        first, second = entrants[one], entrants[other]
        gaps[one, other] = draws.compared(first.sums, second.sums, first.statistic, np.subtract, len(pairs), other=second.statistic)
        gaps[other, one] = _mirrored(gaps[one, other])
    found = [_place(place, entrants, gaps, draws.estimate(own.sums, own.statistic)) for place, own in enumerate(entrants)]
    return sorted(found, key=lambda own: (-(own.value.value or 0.0), own.first, own.name))


def _mirrored(gap: Estimate | Absent) -> Estimate | Absent:
    return gap if isinstance(gap, Absent) else mirrored(gap)


def _place(place: int, entrants: Sequence[Entrant], gaps: Gaps, value: Estimate | Absent) -> Place:
    own = entrants[place]
    others = {one: gaps[place, one] for one in range(len(entrants)) if one != place}
    ahead = sum(isinstance(gap, Estimate) and gap.high < 0 for gap in others.values())
    unsure = {one: gap for one, gap in others.items() if isinstance(gap, Absent) or gap.low <= 0 <= gap.high}
    like = tuple(entrants[one].contestant.name for one in unsure)
    drafter = own.contestant
    return Place(drafter.name, drafter.family, own.drafts, value, 1 + ahead, 1 + ahead + len(unsure), like, _to_tell(list(unsure.values())))


def _to_tell(gaps: Sequence[Estimate | Absent]) -> int | None:
    """About how many more prompts would show all of these differences to be there."""
    known = [gap if gap.value >= 0 else mirrored(gap) for gap in gaps if isinstance(gap, Estimate)]
    needed = [more_prompts(gap, 0.0, 0.0, gap.n_prompts) for gap in known if isinstance(gap, Estimate)]
    found = [one for one in needed if one is not None]
    return max(found) if found and len(found) == len(gaps) else None
