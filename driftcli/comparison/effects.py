"""What a change of template, system prompt, context or domain does to either drafter, compared where both runs measured it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from driftcli.comparison.changes import Change, Scales, change
from driftcli.comparison.numbers import CERTAINTY, KEPT, Number, beside, domain_effect, effect
from driftcli.comparison.pairing import Pairing
from driftcli.comparison.speeds import taken
from driftcli.statistics.intervals import Bootstrap
from driftcli.statistics.walks import EXACT_TEXT, MINIMAL_PROMPTS, Sums

OF_TEXT = ("template", "system-prompt", "context-length")  # probes whose conditions change the text that is drafted on
REPLAYED = "-replayed"  # ends the name of a condition that keeps the text to predict


@dataclass(frozen=True, slots=True)
class Effect:
    """A number of two states of each run, over the units that have both."""

    number: Number
    sums: Sequence[Sums]
    draws: Bootstrap


def effects(pairing: Pairing, band: float, *, same: bool) -> list[Change]:
    """Every effect that both runs measured, with intervals for all of them at once."""
    if any(run.argmax_share < EXACT_TEXT for run in pairing.runs):
        return []
    found = [*_of_texts(pairing), *_of_domains(pairing)]
    scales = Scales(band, max(1, len(found)), same)
    return [change(one.number, one.draws, one.sums, scales) for one in found]


def _of_texts(pairing: Pairing) -> Iterator[Effect]:
    """Accepted draft tokens that a changed text leaves, for each change that both measured with chains as long as the runs'."""
    for probe, name in _shared_conditions(pairing):
        states = [(pairing.condition(place, name), sums) for place, sums in enumerate(pairing.sums)]
        usable = np.flatnonzero(np.all([one["anchors"] > 0 for state in states for one in state], axis=0))
        if len(usable):
            sums = [taken(beside(*state, KEPT), usable) for state in states]
            yield Effect(effect(f"{probe}:{name}", f"{probe}: accepted draft tokens kept, {name}"), sums, pairing.drawn(len(usable)))


def _shared_conditions(pairing: Pairing) -> list[tuple[str, str]]:
    own = [
        [
            (probe, name)
            for probe, name in run.conditions
            if probe in OF_TEXT and not name.endswith(REPLAYED) and run.depth_of(name) == run.spec.depth and name not in run.failed
        ]
        for run in pairing.runs
    ]
    return [one for one in own[0] if all(one in rest for rest in own[1:])]


def _of_domains(pairing: Pairing) -> Iterator[Effect]:
    """Right first guesses in each category of enough prompts, against all other prompts of the run."""
    inside = pairing.by_category
    for category, units in inside.items():
        if len(inside) > 1 and MINIMAL_PROMPTS <= units.sum() < len(units):
            sums = [beside(_only(one, units), _only(one, ~units), CERTAINTY) for one in pairing.sums]
            yield Effect(domain_effect(category), sums, pairing.draws)


def _only(sums: Sums, units: np.ndarray) -> Sums:
    return {key: (sums[key].T * units).T for key in CERTAINTY}
