"""What helps on this very pair, by how much, and does speculation pay at all?

Every mitigation is a few conditions over the same engine. What helps alone is drafted together in a second round: gains do not add up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from driftcli.conditions import Condition, DraftSettings, Plan
from driftcli.domain import Absent, Axis, Finding, PairCard, RunSpec, Said, Skipped, Sound
from driftcli.mitigations.attention import AttentionRegularisation
from driftcli.mitigations.block_serving import length_typed
from driftcli.mitigations.diagnostics import Diagnostics
from driftcli.mitigations.draft_length import DraftLength
from driftcli.mitigations.draft_window import DraftWindow
from driftcli.mitigations.early_stop import EarlyStop
from driftcli.mitigations.held_state import HeldState
from driftcli.mitigations.mitigation import Kind, Mitigation, Option, Trial, usual
from driftcli.mitigations.rendering_repair import RenderingRepair
from driftcli.mitigations.trials import Outcome, best_option, helps_where_chosen, judged
from driftcli.mitigations.wiring_repair import WiringRepair
from driftcli.probe import Trace
from driftcli.statistics.costs import BatchCosts, pays_from
from driftcli.statistics.grades import Grades, lost
from driftcli.statistics.payoff import best_length, deciding, undecided

MITIGATIONS: tuple[Mitigation, ...] = (
    DraftLength(),
    DraftWindow(),
    EarlyStop(),
    RenderingRepair(),
    WiringRepair(),
    AttentionRegularisation(),
    Diagnostics(),
    HeldState(),
)
MITIGATED = "mitigations"  # name of the probe
TOGETHER = "together"  # condition of what helps alone, put together


@dataclass(frozen=True)
class Mitigations:
    """All mitigations, and whether speculation pays at all."""

    name: str = MITIGATED
    axes: tuple[Axis, ...] = ("payoff",)
    grades: Grades = field(default_factory=Grades)  # of speed lost to speculation

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """What each of them drafts."""
        return [replace(one, probe=self.name) for mitigation in MITIGATIONS for one in mitigation.conditions(pair, spec)]

    def further(self, trace: Trace) -> Sequence[Condition]:
        """What helps alone, together, once, where it is more than one thing."""
        changes = [] if undecided(trace) else _helping_changes(trace)
        if len(changes) < 2 or TOGETHER in trace.measured:
            return ()
        merged: dict[str, Any] = {name: value for one in changes for name, value in one.changes.items()}
        together = DraftSettings(trace.spec.depth, **merged)
        return (Condition(TOGETHER, together, self.name, free=True),)

    def judge(self, trace: Trace) -> Iterator[Said]:
        """Whether the best way to speculate is faster than not to."""
        if reason := undecided(trace):
            yield Skipped("payoff", "inconclusive", reason)
        elif trace.costs is None:
            yield Skipped("payoff", "inconclusive", "no step times are known; give them with --costs, or diagnose anew to time them")
        elif costs := deciding(trace):
            yield self._worth(trace, costs)
        else:
            yield Skipped("payoff", "inconclusive", f"no speed is told: {trace.costs.deciding.doubt}; time the steps again")

    def _worth(self, trace: Trace, costs: BatchCosts) -> Said:
        plan, worth = best_length(trace, costs)
        if isinstance(worth, Absent):
            return Skipped("payoff", "inconclusive", worth.reason)
        gain = f"{worth.value:.2f}x [{worth.low:.2f}, {worth.high:.2f}] the speed of plain decoding"
        seen, pays = f"{gain} at draft length {plan.drafts}, the best at batch {costs.batch_size}", pays_from(costs, plan.drafts)
        claim = f"{seen}; {pays}"
        if worth.low > 1:
            return Sound("payoff", claim)
        if worth.high >= 1:
            return Skipped("payoff", "inconclusive", f"{seen}, which may be a gain or a loss, more prompts would tell; {pays}")
        return Finding(
            "NO-PAYOFF", self.grades.of(lost(worth)), claim, worth, "times plain decoding", "turn speculation off at this batch size"
        )


def outcomes(trace: Trace) -> list[Outcome]:
    """Every trial of the run; none where nothing can be decided."""
    if undecided(trace):
        return []
    return judged(trace, [*_single(trace), *_together(trace)], deciding(trace))


def _single(trace: Trace) -> list[tuple[Kind, Trial]]:
    return [(one.kind, trial) for one in MITIGATIONS for trial in one.trials(trace)]


def _helping_changes(trace: Trace) -> list[Option]:
    """Options that change how chains are drafted on the run's own texts and help by themselves on the half that selects, whatever a step
    costs.
    """
    best = [best_option(trace, trial, None) for kind, trial in _single(trace) if kind != "diagnostic"]
    tried = [one for one in best if isinstance(one, Option)]
    return [one for one in tried if one.changes and helps_where_chosen(trace, one, len(tried))]


def _together(trace: Trace) -> list[tuple[Kind, Trial]]:
    """What helps alone put together, or the one thing that does, at every draft length."""
    changes = _helping_changes(trace)
    if not changes:
        return []
    condition = TOGETHER if TOGETHER in trace.measured else changes[0].plan.condition
    words = " and ".join(one.words for one in (changes if condition == TOGETHER else changes[:1]))
    lengths = (trace.spec.depth,) if trace.pair.lengths_apart else range(1, trace.spec.depth + 1)
    options = [
        Option(f"{words}, draft length {length}", Plan(condition, length), usual(trace), length_typed(length, trace.pair))
        for length in lengths
    ]
    return [("needs code", Trial(TOGETHER, options))]
