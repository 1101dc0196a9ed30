"""Fewer proposals a chain: every draft length from the one deep chain, on its own walk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from driftcli.conditions import Condition, Plan
from driftcli.domain import PairCard, RunSpec
from driftcli.mitigations.mitigation import Kind, Option, Trial, usual
from driftcli.mitigations.serving import draft_length
from driftcli.probe import Trace


@dataclass(frozen=True)
class DraftLength:
    """Lengths `1 .. depth - 1` against the run's depth."""

    name: str = "draft-length"
    kind: Kind = "deployable"

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """None: a shorter chain is the beginning of a deeper one."""
        return ()

    def trials(self, trace: Trace) -> Sequence[Trial]:
        """All shorter drafts."""
        own = trace.pair.no_recursion is None
        lengths = range(1, trace.spec.depth)
        options = [
            Option(f"draft length {length}", Plan(trace.reference, length), usual(trace), draft_length(length, self_feeding=own))
            for length in lengths
        ]
        return [Trial(self.name, options)] if options else []
