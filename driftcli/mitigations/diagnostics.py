"""What no server can do and what it would give: the state's RMS pinned, its feedback normed, and the target's state at every few depths.

They tell a cause, not a cure: a head that a normed feedback helps was trained for it, and the target's state of a token that is not yet
verified exists nowhere but in a text that is already written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from driftcli.conditions import Condition, DraftSettings, Plan, Wiring
from driftcli.domain import PairCard, RunSpec
from driftcli.mitigations.mitigation import Kind, Option, Trial, usual
from driftcli.probe import Trace

EVERY = (2, 4)  # depths between two states of the target (chosen by us)


@dataclass(frozen=True)
class Diagnostics:
    """One trial each."""

    name: str = "diagnostic"
    kind: Kind = "diagnostic"

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """None in a hurry, nor for a drafter without a state."""
        if spec.quick or pair.no_recursion is not None:
            return ()
        feedback = pair.record.get("feedback")
        made = {"rms-pinned": DraftSettings(spec.depth, pinned=True)}
        if feedback is not None and feedback.value == "raw":
            made["feedback-normed-by-hand"] = DraftSettings(spec.depth, wiring=Wiring(feedback="normed"))
        made |= {f"re-anchored-{every}": DraftSettings(spec.depth, reanchored=every) for every in EVERY if every < spec.depth}
        return [Condition(name, settings) for name, settings in made.items()]

    def trials(self, trace: Trace) -> Sequence[Trial]:
        """Every one by itself."""
        names = [one.name for one in self.conditions(trace.pair, trace.spec) if one.name in trace.measured]
        return [Trial(name, [Option(_words(name), Plan(name, trace.spec.depth), usual(trace))]) for name in names]


def _words(name: str) -> str:
    if name == "rms-pinned":
        return "every state scaled to the RMS of the chain's first"
    if name == "feedback-normed-by-hand":
        return "the state normed before it is fed back"
    return f"the target's state every {name.rsplit('-', 1)[1]} depths"
