"""What speculation is worth on a run's own texts: the fastest draft length by the costs of its steps, and whether even that pays."""

from __future__ import annotations

from collections.abc import Callable

from driftcli.costs import StepCosts, speed_up_of
from driftcli.domain import Absent, Estimate, Plan
from driftcli.intervals import too_few
from driftcli.probe import Trace
from driftcli.stats import EXACT_TEXT, MINIMAL_PROMPTS, Floats, Sums

MOST_TRIALS = 20  # as many as a run tries mitigations at most, so that no advice is bolder than the trial of the same draft length
MINIMAL_GAIN = 1.02  # below a gain of 2% nothing is worth a change of settings (chosen by us)


def undecided(trace: Trace) -> str:
    """Why nothing can be chosen on one half of the prompts and judged on the other; empty where it can."""
    if trace.argmax_share < EXACT_TEXT:
        return "the given replies are not the target's own, so no acceptance is claimed on them"
    return too_few(trace.n_prompts, 2 * MINIMAL_PROMPTS) if trace.n_prompts < 2 * MINIMAL_PROMPTS else ""


def priced(trace: Trace) -> tuple[StepCosts, ...]:
    """The costs by batch size, that which decides first; none where they are unknown or nothing can be decided."""
    return () if trace.costs is None or undecided(trace) else trace.costs.by_batch


def speed(costs: StepCosts) -> Callable[[Sums], Floats]:
    """Expected speed over plain decoding by these costs."""
    return lambda sums: speed_up_of(sums["rounds_by_sent"], sums["kept"], costs)


def best_length(trace: Trace, costs: StepCosts) -> tuple[Plan, Estimate | Absent]:
    """The draft length with the largest expected speed on the half that selects, and its speed on the other half."""
    plans = [Plan(trace.reference, drafts) for drafts in range(1, trace.spec.depth + 1)]
    speeds = [(plan, trace.planned(speed(costs), plan, half="selecting")) for plan in plans]
    known = [(plan, one.value) for plan, one in speeds if isinstance(one, Estimate)]
    best = max(known, key=lambda pair: pair[1])[0] if known else plans[-1]
    return best, trace.planned(speed(costs), best, half="judging")


def paying_length(trace: Trace, costs: StepCosts) -> int:
    """The best draft length, 0 where even that is surely slower than plain decoding."""
    plan, worth = best_length(trace, costs)
    return 0 if surely_slower(worth) else plan.drafts


def advised_length(trace: Trace, costs: StepCosts) -> int:
    """As `paying_length`, but the run's own length unless the best one is surely faster, by enough to change a setting for."""
    drafts, deepest = paying_length(trace, costs), trace.spec.depth
    if drafts in (0, deepest):
        return drafts
    gain = trace.planned(speed(costs), Plan(trace.reference, drafts), Plan(trace.reference, deepest), "judging", MOST_TRIALS)
    return drafts if isinstance(gain, Estimate) and gain.low > 1 and gain.value >= MINIMAL_GAIN else deepest


def surely_slower(speed_up: Estimate | Absent) -> bool:
    """Whether the whole interval of a speed over plain decoding lies below 1."""
    return isinstance(speed_up, Estimate) and speed_up.high < 1
