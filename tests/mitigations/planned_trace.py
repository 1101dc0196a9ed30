"""A run made by hand, as far as plans see it: kept drafts of each by prompt, on 40 prompts; a plan that is not named keeps one a round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Unpack

from driftcli.conditions import Plan
from driftcli.domain import Absent
from driftcli.statistics.costs import Costs, StepCosts
from driftcli.testing import Facts, Given, Head

PROMPTS = 40
DEPTH = 4
EVEN = Head(rounds=(100,) * DEPTH, kept=(100,) * DEPTH, prompts=PROMPTS)
CHEAP = StepCosts(1, 0.1, 0.1, (1.0, 1.0, 1.0, 1.0, 1.0))  # drafts cost a tenth of a target step, which reads more tokens for nothing
DEAR = StepCosts(1, 1.0, 1.0, (1.0, 2.0, 3.0, 4.0, 5.0))  # a draft costs a target step, and so does every token that is verified


def costing(steps: StepCosts) -> Costs:
    """Costs of one batch size."""
    return Costs("by hand", 100, (steps,))


def planned(
    plans: Mapping[Plan, float | Sequence[float] | Absent] | None = None,
    step_costs: StepCosts | None = CHEAP,
    measured: Iterable[str] = (),
    prompts: int = PROMPTS,
    **facts: Unpack[Given],
) -> Facts:
    """A run of which these plans are known, drafts kept on 100 rounds, and in which other conditions were measured with nothing gained."""
    head = Head(rounds=EVEN.rounds, kept=EVEN.kept, prompts=prompts)
    run = Facts(**facts) if step_costs is None else Facts(**{**facts, "costs": costing(step_costs)})
    return replace(run, head=head, plans=plans or {}, conditions=dict.fromkeys(measured, head))
