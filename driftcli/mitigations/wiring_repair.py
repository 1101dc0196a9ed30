"""The wiring that fits the weights in place of the declared one, where the search for it found another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from driftcli.conditions import BASELINE, Condition, Plan
from driftcli.domain import PairCard, RunSpec
from driftcli.mitigations.block_serving import block_wiring, parallel_wiring
from driftcli.mitigations.mitigation import Kind, Option, Trial, usual
from driftcli.mitigations.mtp_serving import mtp_wiring
from driftcli.mitigations.serving import wiring
from driftcli.probe import Trace

MADE = {"mtp": mtp_wiring, "assistant": mtp_wiring, "block": block_wiring, "peagle": parallel_wiring, "pard": parallel_wiring}


@dataclass(frozen=True)
class WiringRepair:
    """What the search settled on, against what is declared."""

    name: str = "wiring-repair"
    kind: Kind = "deployable"

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """None: a drafter that is wired otherwise has its own baseline."""
        return ()

    def trials(self, trace: Trace) -> Sequence[Trial]:
        """One option, where the declared wiring lost."""
        if not trace.wiring.changes:
            return []
        words, declared = f"wire it as {trace.wiring}", Plan(BASELINE, trace.spec.depth)
        changes, pair = trace.wiring.changes, trace.pair
        settings = MADE[pair.family](changes) if pair.family in MADE else wiring(changes, target_type=pair.target.model_type)
        return [Trial(self.name, [Option(words, usual(trace), declared, settings)])]
