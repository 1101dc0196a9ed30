"""What a run measures: the conditions that a battery asks of a pair, in the order in which they are measured.

All of it follows from the pair's card, so it is known before a weight is read; only later rounds of a probe follow from numbers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from driftcli.conditions import BASELINE, Condition, DraftSettings, TextSettings, Wiring
from driftcli.domain import REWIRED, PairCard, RunSpec
from driftcli.errors import ProbeError
from driftcli.probe import Probe, Rounds, Search
from driftcli.traces.layout import CONDITION

UNCHANGING = {
    "causal-lm": "a causal LM",
    "pard": "a causal LM",
    "early-exit": "an early exit of the target",
    "lookup": "a lookup",
}  # families, in words


@dataclass(frozen=True)
class Agenda:
    """The conditions of a battery on a pair. dropped: names of those that are left out, for which a run has no time."""

    card: PairCard
    spec: RunSpec
    battery: Sequence[Probe]
    dropped: Collection[str] = ()

    @property
    def searches(self) -> list[Search]:
        """The probes that ask in rounds, before the others."""
        return [probe for probe in self.battery if isinstance(probe, Search)]

    @property
    def later_rounds(self) -> list[Rounds]:
        """The probes that ask again when all others have been measured."""
        return [probe for probe in self.battery if isinstance(probe, Rounds) and not isinstance(probe, Search)]

    def opening(self) -> list[Condition]:
        """The baseline and the first round of every search."""
        baseline = Condition(BASELINE, DraftSettings(depth=self.spec.depth), controls=True, full=True)
        return [baseline, *(condition for probe in self.searches for condition in probe.conditions(self.card, self.spec))]

    def rest(self, wiring: Wiring) -> list[Condition]:
        """What the other probes ask for, on the wiring that fits the weights; that one drafts first where it is not the declared one."""
        rewired = Condition(REWIRED, DraftSettings(self.spec.depth, wiring=wiring), controls=True, full=True)
        return [*([rewired] if wiring.changes else []), *(on(wiring, one) for one in self.asked() if one.name not in self.dropped)]

    def asked(self) -> list[Condition]:
        """What the probes that search nothing ask for, dropped or not."""
        others = [probe for probe in self.battery if not isinstance(probe, Search)]
        return [condition for probe in others for condition in probe.conditions(self.card, self.spec)]

    def conditions(self) -> Sequence[Condition]:
        """All that is known to be run before anything is measured."""
        return self.checked([*self.opening(), *self.rest(Wiring())])

    def checked(self, conditions: Sequence[Condition]) -> Sequence[Condition]:
        """The conditions of a run; raises ProbeError for a bad or repeated name or a chain too deep."""
        names = [condition.name for condition in conditions]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ProbeError(f"condition {twice!r} is asked for twice, expected distinct names; rename it in one probe")
        if odd := next((name for name in names if not re.fullmatch(CONDITION, name)), None):
            raise ProbeError(f"condition {odd!r}: expected a name of letters, digits and . _ + - only, since its files carry it; rename it")
        if deep := next((one for one in conditions if one.settings.depth > self.spec.depth and not one.deeper), None):
            raise ProbeError(
                f"condition {deep.name!r} drafts {deep.settings.depth} deep, but the run's anchors allow {self.spec.depth}; raise --depth, "
                "or mark the condition deeper"
            )
        if self.card.family in UNCHANGING and (other := next((c.name for c in conditions if not _is_plain(c)), None)):
            what = UNCHANGING[self.card.family]
            raise ProbeError(f"condition {other!r} changes how a self-feeding drafter drafts, but this is {what}; leave its probe out")
        return conditions


def sharing_texts(conditions: Iterable[Condition]) -> dict[tuple[TextSettings, int], list[Condition]]:
    """Conditions by their texts and how many prompts they are asked of, in the order in which those first come."""
    found: dict[tuple[TextSettings, int], list[Condition]] = {}
    for condition in conditions:
        found.setdefault((condition.text, condition.prompts), []).append(condition)
    return found


def on(wiring: Wiring, condition: Condition) -> Condition:
    """A condition of a probe on another wiring than the declared one."""
    return replace(condition, settings=replace(condition.settings, wiring=wiring.then(condition.settings.wiring)))


def _is_plain(condition: Condition) -> bool:
    """Whether a whole model can draft so: nothing but its mask is another, of one that has a mask."""
    settings = condition.settings
    return settings == DraftSettings(settings.depth, wiring=Wiring(mask=settings.wiring.mask))
