"""A probe or a mitigation asked about a run of given facts: what comes back, in few words and whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

from driftcli.conditions import Condition, Wiring
from driftcli.domain import Axis, Finding, Said, Skipped
from driftcli.mitigations.mitigation import Mitigation, Trial
from driftcli.mitigations.trials import Outcome, judged
from driftcli.probe import Probe, Rounds, Search
from driftcli.statistics.payoff import deciding
from driftcli.testing.contract import checked_conditions, checked_facts, checked_probe, checked_said, checked_trials
from driftcli.testing.facts import Facts, Given


@dataclass(frozen=True, slots=True)
class Told:
    """What a probe said of a run, the conditions that it asked for before any number was known and those that it asks for now, and of a
    search the wiring that it settled on.
    """

    said: tuple[Said, ...]
    conditions: tuple[Condition, ...]
    further: tuple[Condition, ...] = ()
    wiring: Wiring | None = None

    @property
    def findings(self) -> dict[str, Finding]:
        """The findings by code; of several with the same code the last."""
        return {one.code: one for one in self.said if isinstance(one, Finding)}

    @property
    def codes(self) -> list[str]:
        """The codes of all findings, in the order in which they were said."""
        return [one.code for one in self.said if isinstance(one, Finding)]

    @property
    def axes(self) -> dict[Axis, str]:
        """What else was said, by axis: `sound`, `open`, `withheld`, or why one was skipped, `inconclusive` or `not applicable`."""
        others = [one for one in self.said if not isinstance(one, Finding)]
        return {one.axis: one.state if isinstance(one, Skipped) else type(one).__name__.lower() for one in others}


@dataclass(frozen=True, slots=True)
class Tried:
    """What a mitigation tried of a run and what came of it."""

    trials: tuple[Trial, ...]
    outcomes: tuple[Outcome, ...]
    conditions: tuple[Condition, ...]

    @property
    def helps(self) -> list[str]:
        """The trials that give more, beyond their intervals and by enough to change a setting for."""
        return [one.trial for one in self.outcomes if one.helps]


def compute_probe(probe: Probe, **facts: Unpack[Given]) -> Told:
    """What a probe says of a run of these facts, its contract checked on the way; raises ProbeError where it is broken."""
    checked_probe(probe)
    trace = Facts(**facts)
    asked = checked_conditions(probe.name, lambda: probe.conditions(trace.pair, trace.spec), trace.spec, owner=probe.name)
    if not isinstance(probe, Rounds):
        checked_facts(probe.name, {*trace.conditions, *trace.ratios}, asked)
    said = tuple(checked_said(probe, trace))
    if not isinstance(probe, Rounds):
        return Told(said, tuple(asked))
    further = checked_conditions(probe.name, lambda: probe.further(trace), trace.spec, owner=probe.name)
    return Told(said, tuple(asked), tuple(further), probe.wiring(trace) if isinstance(probe, Search) else None)


def compute_mitigation(mitigation: Mitigation, **facts: Unpack[Given]) -> Tried:
    """What a mitigation tries of a run of these facts and what comes of it, its contract checked on the way; raises ProbeError where it is
    broken. Options are told apart on half of the prompts and judged on the other, so fewer than 16 prompts tell little.
    """
    trace = Facts(**facts)
    asked = checked_conditions(mitigation.name, lambda: mitigation.conditions(trace.pair, trace.spec), trace.spec, owner=None)
    trials = checked_trials(mitigation, trace)
    found = judged(trace, [(mitigation.kind, one) for one in trials], deciding(trace))
    return Tried(tuple(trials), tuple(found), tuple(asked))
