"""A run made by hand, as far as plans see it: rounds and kept drafts by prompt of each plan, with the real bootstrap on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from driftcli.conditions import BASELINE, Plan, StopMeasure, Wiring
from driftcli.domain import Absent, PairCard, RunSpec
from driftcli.statistics.costs import Costs, StepCosts
from driftcli.statistics.pooled import Pooled
from driftcli.statistics.walks import Sums
from tests.probes.fake_trace import HAIR, card

PROMPTS = 40
DEPTH = 4
CHEAP = StepCosts(1, 0.1, 0.1, (1.0, 1.0, 1.0, 1.0, 1.0))  # drafts cost a tenth of a target step, which reads more tokens for nothing
DEAR = StepCosts(1, 1.0, 1.0, (1.0, 2.0, 3.0, 4.0, 5.0))  # a draft costs a target step, and so does every token that is verified


def decoded(kept: float | Sequence[float], drafts: int = DEPTH, rounds: float = 100) -> Sums:
    """Every prompt has as many rounds of `drafts` proposals and as many kept; a sequence is dealt over the prompts in turn."""
    by_sent = np.zeros((PROMPTS, drafts + 1))
    by_sent[:, drafts] = rounds
    dealt = np.resize(np.atleast_1d(np.asarray(kept, dtype=float)), PROMPTS)
    return {"rounds_by_sent": by_sent, "kept": dealt + HAIR * (np.arange(PROMPTS) % 7) * dealt**2, "anchors": np.full(PROMPTS, 500.0)}


@dataclass(frozen=True)
class PlannedTrace(Pooled):
    """A run of which plans alone are known; one that is not named kept 100 drafts on 100 rounds in all prompts."""

    plans: Mapping[Plan, Sums | Absent] = field(default_factory=dict)
    step_costs: StepCosts | None = CHEAP
    measured: frozenset[str] = frozenset({BASELINE})
    pair: PairCard = field(default_factory=card)
    reference: str = BASELINE
    wiring: Wiring = field(default_factory=Wiring)
    argmax_share: float = 1.0
    n_prompts: int = PROMPTS
    spec: RunSpec = field(default_factory=lambda: RunSpec(depth=DEPTH))

    @property
    def costs(self) -> Costs | None:
        return None if self.step_costs is None else Costs("by hand", 100, (self.step_costs,))

    def sums(self, condition: str) -> Sums:
        return {"anchors": np.full(PROMPTS, 500.0)}

    def plan_sums(self, plan: Plan) -> Sums:
        found = self.plans.get(plan, decoded(100, plan.drafts))
        assert not isinstance(found, Absent)
        return found

    def cannot_plan(self, plan: Plan) -> Absent | None:
        found = self.plans.get(plan)
        return found if isinstance(found, Absent) else None

    def within_category(self, category: str) -> np.ndarray:
        raise NotImplementedError

    def fresh_band(self, measure: StopMeasure, outside: float) -> tuple[float, float] | None:
        return (1.0 - outside, 2.0 + outside)
