"""A run made by hand, as far as plans see it: rounds and kept drafts by prompt of each plan, with the real bootstrap on top."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from driftcli.costs import Costs, StepCosts
from driftcli.domain import BASELINE, Absent, Estimate, Half, PairCard, Plan, RunSpec, StopMeasure, Wiring
from driftcli.stats import Bootstrap, Floats, Sums, ratio
from tests.probes.fake_trace import card

PROMPTS = 40
DEPTH = 4
CHEAP = StepCosts(1, 0.1, 0.1, (1.0, 1.0, 1.0, 1.0, 1.0))  # drafts cost a tenth of a target step, which reads more tokens for nothing
DEAR = StepCosts(1, 1.0, 1.0, (1.0, 2.0, 3.0, 4.0, 5.0))  # a draft costs a target step, and so does every token that is verified


def decoded(kept: float | Sequence[float], drafts: int = DEPTH, rounds: float = 100) -> Sums:
    """Every prompt has as many rounds of `drafts` proposals and as many kept; a sequence is dealt over the prompts in turn."""
    by_sent = np.zeros((PROMPTS, drafts + 1))
    by_sent[:, drafts] = rounds
    dealt = np.resize(np.atleast_1d(np.asarray(kept, dtype=float)), PROMPTS)
    return {"rounds_by_sent": by_sent, "kept": dealt, "anchors": np.full(PROMPTS, 500.0)}


@dataclass(frozen=True)
class PlannedTrace:
    """Implements what mitigations read of `driftcli.probe.Trace`; a plan that is not named kept 100 drafts on 100 rounds in all prompts."""

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

    def planned(
        self, statistic: Callable[[Sums], Floats], plan: Plan, over: Plan | None = None, half: Half | None = None, tries: int = 1
    ) -> Estimate | Absent:
        found = [self.plans.get(one, decoded(100, one.drafts)) for one in ([plan] if over is None else [plan, over])]
        if absent := next((one for one in found if isinstance(one, Absent)), None):
            return absent
        some = np.arange(PROMPTS) if half is None else np.arange(PROMPTS)[half == "judging" :: 2]
        sums = [{name: values[some] for name, values in one.items()} for one in found if not isinstance(one, Absent)]
        draws = Bootstrap.of(len(some), 0)
        return draws.estimate(sums[0], statistic, tries) if over is None else draws.compared(sums[0], sums[1], statistic, ratio, tries)

    def fresh_band(self, measure: StopMeasure, outside: float) -> tuple[float, float] | None:
        return (1.0 - outside, 2.0 + outside)
