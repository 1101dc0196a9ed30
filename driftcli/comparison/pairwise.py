"""Two runs compared: the acceptance length, which decides, then everything else of the headline.

Several numbers are looked at, one decides. The acceptance length has a 95% interval of its own. The others of the headline are for reading:
their intervals hold for all of them at once (Bonferroni), as do those of the effects of template, context and domain, so that among numbers
that did not change one in twenty comparisons calls any of them changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from driftcli.comparison.changes import Change, Scales, change
from driftcli.comparison.comparability import OF_TARGETS, TARGET, Difference, differences
from driftcli.comparison.effects import effects
from driftcli.comparison.losses import fresh_an_anchor, lost_to
from driftcli.comparison.numbers import SAMPLED, SURVIVAL_ERROR, WHOLE, Number, length, lost_along, others
from driftcli.comparison.pairing import Pairing, paired
from driftcli.comparison.speeds import speed_change
from driftcli.comparison.twins import held_together
from driftcli.domain import Absent, Estimate
from driftcli.errors import RunError
from driftcli.statistics.curves import MINIMAL_FRESH_ACCEPTED
from driftcli.statistics.walks import EXACT_TEXT
from driftcli.traces.reader import Run


@dataclass(frozen=True, slots=True)
class Missing:
    """A number that is not compared, and why."""

    words: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """RUN1 held against RUN0. length decides; others and effects are for reading. forced: differences that would have refused it."""

    pairing: Pairing
    names: tuple[str, str]
    length: Change
    others: Sequence[Change]
    effects: Sequence[Change]
    missing: Sequence[Missing]
    differences: Sequence[Difference]
    band: float

    @property
    def forced(self) -> list[Difference]:
        """What differs and would have refused the comparison."""
        return [one for one in self.differences if one.effect == "refuses"]

    @property
    def changes(self) -> list[Change]:
        """Everything that was compared, what decides first."""
        return [self.length, *self.others, *self.effects]


DO = "measure both alike, or compare them all the same with --force"


def comparable(runs: Sequence[Run], *, force: bool = False, any_depth: bool = False, do: str = DO) -> list[Difference]:
    """What differs between runs; raises RunError where that refuses a comparison, unless `force`; do: what to do then."""
    found = differences(runs, any_depth=any_depth)
    if held_together(runs):
        found = [Difference(one.what, one.seen, "is told") if one.what in OF_TARGETS else one for one in found]
    elif len(runs) == 2 and any(one.what == TARGET for one in found):
        loss = f"what a drafter loses by another target tells driftcli diagnose --against-target {runs[0].path}"
        do = f"{loss}, or compare them all the same with --force"
    refusing = [one for one in found if one.effect == "refuses"]
    if refusing and not force:
        what = "; ".join(map(str, refusing))
        where = ", ".join(str(run.path) for run in runs)
        raise RunError(f"{where}: not comparable, they differ in {what}; {do}")
    return found


def compare(runs: tuple[Run, Run], names: tuple[str, str], band: float, *, force: bool = False) -> Comparison:
    """The second of two runs held against the first; raises RunError where they are not comparable, unless `force`, or share too little."""
    found = comparable(runs, force=force)
    pairing = paired(runs, force=force)
    same = pairing.same_guesses(0, 1)
    claimed = all(run.argmax_share >= EXACT_TEXT for run in runs)
    decided = change(length(claimed=claimed), pairing.draws, pairing.sums, Scales(band, same=same))
    asked, missing = _asked(pairing, claimed=claimed)
    speed = speed_change(pairing, found)
    tries = len(asked) + (not isinstance(speed, str))
    scales = Scales(band, tries, same)
    told = [make(scales) for make in asked]
    if isinstance(speed, str):
        missing.append(Missing("expected speed", speed))
    else:
        told.append(speed(scales))
    of_texts = effects(pairing, band, same=same)
    missing += [Missing(one.number.words, one.difference.reason) for one in of_texts if isinstance(one.difference, Absent)]
    known = [one for one in of_texts if isinstance(one.difference, Estimate)]
    return Comparison(pairing, names, decided, told, known, missing, found, band)


def _asked(pairing: Pairing, *, claimed: bool) -> tuple[list[Callable[[Scales], Change]], list[Missing]]:
    """What to compare besides the length, ready but for how wide intervals are, and what cannot be."""
    found: list[Callable[[Scales], Change]] = []
    missing: list[Missing] = []
    if not claimed:
        missing.append(Missing(WHOLE.words, "the given replies are not the target's own"))
    elif pairing.endings is None:
        missing.append(Missing(WHOLE.words, "one run was measured before rounds were counted to the end of each reply"))
    else:
        found.append(lambda scales: _whole(pairing, scales))
    sampled = [SAMPLED] if all(run.is_sampled(run.reference) for run in pairing.runs) else []
    side_by_side = pairing.depth > 1 and any(run.pair.guesses_side_by_side for run in pairing.runs)
    along = [lost_along(pairing.depth)] if side_by_side else []
    for number in (*sampled, *others(pairing.depth), *along):
        if why := _lacking(pairing, number):
            missing.append(Missing(number.words, why))
        else:
            found.append(partial(change, number, pairing.draws, pairing.sums))
    return found, missing


def _whole(pairing: Pairing, scales: Scales) -> Change:
    assert pairing.endings is not None
    units, sums = pairing.endings
    return change(WHOLE, pairing.drawn(units.count), sums, scales)


def _lacking(pairing: Pairing, number: Number) -> str:
    """Why a number is not compared, empty where it is."""
    if number.of_state and (why := next((run.pair.no_recursion for run in pairing.runs if run.pair.no_recursion), None)):
        return why
    if number.name == lost_along(pairing.depth).name:
        return next((run.pair.no_recursion or "" for run in pairing.runs if lost_to(run.pair) is None), "")
    if number.name == "self_feeding_tax":
        least = min(map(fresh_an_anchor, pairing.sums))
        if least < MINIMAL_FRESH_ACCEPTED:
            return f"only {least:.2f} fresh drafts are accepted an anchor, below {MINIMAL_FRESH_ACCEPTED} it is noise"
    if number.name == SURVIVAL_ERROR and any(np.isnan(sums["promised_by_bin"]).any() for sums in pairing.sums):
        return "the draft tokens of one run have no probabilities along deployed chains"
    return ""
