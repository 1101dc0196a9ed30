"""The target's state of the chain's beginning, held at every depth: what a drafter keeps without feeding its own state back.

No engine hands it on today, and where it gives less than the drafter's own state it only says what that state is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from driftcli.conditions import Condition, Plan
from driftcli.domain import PairCard, RunSpec
from driftcli.mitigations.mitigation import Kind, Option, Trial, usual
from driftcli.probe import Trace
from probes.held_state import HELD


@dataclass(frozen=True)
class HeldState:
    """What the probe of the held state drafted, as a trial."""

    name: str = "held-state"
    kind: Kind = "diagnostic"

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """None: the probe asks for it."""
        return ()

    def trials(self, trace: Trace) -> Sequence[Trial]:
        """One, where the probe was asked."""
        if HELD not in trace.measured:
            return ()
        option = Option("the target's state of the chain's beginning at every depth", Plan(HELD, trace.spec.depth), usual(trace))
        return [Trial(self.name, [option])]
