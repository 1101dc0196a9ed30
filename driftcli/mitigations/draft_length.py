"""Fewer proposals a chain: every draft length from the one deep chain, on its own walk, or, where they are other guesses, drafted apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from driftcli.conditions import DRAFTING, Condition, DraftSettings
from driftcli.domain import PairCard, RunSpec
from driftcli.mitigations.block_serving import length_typed
from driftcli.mitigations.mitigation import Kind, Option, Trial, usual
from driftcli.probe import Trace
from driftcli.statistics.payoff import at_length


@dataclass(frozen=True)
class DraftLength:
    """Lengths `1 .. depth - 1` against the run's depth."""

    name: str = "draft-length"
    kind: Kind = "deployable"

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """None where a shorter chain is the beginning of a deeper one, else each length."""
        lengths = range(1, spec.depth) if pair.lengths_apart else ()
        return [Condition(f"{DRAFTING}{length}", DraftSettings(length)) for length in lengths]

    def trials(self, trace: Trace) -> Sequence[Trial]:
        """All shorter drafts."""
        plans = [at_length(trace, length) for length in range(1, trace.spec.depth)]
        options = [
            Option(f"draft length {plan.drafts}", plan, usual(trace), length_typed(plan.drafts, trace.pair))
            for plan in plans
            if plan.condition in trace.measured
        ]
        return [Trial(self.name, options)] if options else []
