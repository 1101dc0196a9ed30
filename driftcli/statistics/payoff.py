"""What speculation is worth on a run's own texts: the fastest draft length by the costs of its steps, and whether even that pays."""

from __future__ import annotations

from collections.abc import Callable

from driftcli.conditions import DRAFTING, Plan
from driftcli.domain import Absent, Estimate, Half
from driftcli.probe import Trace
from driftcli.statistics.costs import BatchCosts, speed_up_of
from driftcli.statistics.intervals import too_few
from driftcli.statistics.walks import EXACT_TEXT, MINIMAL_PROMPTS, Floats, Sums

MOST_TRIALS = 20  # as many as a run tries mitigations at most, so that no advice is bolder than the trial of the same draft length
MINIMAL_GAIN = 1.02  # below a gain of 2% nothing is worth a change of settings (chosen by us)


def undecided(trace: Trace) -> str:
    """Why nothing can be chosen on one half of the prompts and judged on the other; empty where it can."""
    if trace.argmax_share < EXACT_TEXT:
        return "the given replies are not the target's own, so no acceptance is claimed on them"
    return too_few(trace.n_prompts, 2 * MINIMAL_PROMPTS) if trace.n_prompts < 2 * MINIMAL_PROMPTS else ""


def priced(trace: Trace) -> tuple[BatchCosts, ...]:
    """The costs by batch size, that which decides first, but for those that cannot be true; none where they are unknown or nothing can be
    decided.
    """
    return () if trace.costs is None or undecided(trace) else tuple(one for one in trace.costs.by_batch if not one.doubt)


def deciding(trace: Trace) -> BatchCosts | None:
    """The costs of the batch size that decides, None where they are unknown or cannot be true."""
    known = None if trace.costs is None else trace.costs.deciding
    return None if known is None or known.doubt else known


def withheld(trace: Trace) -> list[tuple[BatchCosts, str]]:
    """The batch sizes of which no speed is told, and why."""
    return [] if trace.costs is None else [(one, one.doubt) for one in trace.costs.by_batch if one.doubt]


def speed(costs: BatchCosts, half: Half | None = None) -> Callable[[Sums], Floats]:
    """Expected speed over plain decoding by these costs, of one half of the turns in which they were timed or of all."""
    return lambda sums: speed_up_of(sums["rounds_by_sent"], sums["kept"], costs, half)


def at_length(trace: Trace, drafts: int) -> Plan:
    """Decoding by so many draft tokens: by the beginning of the reference's chains, or by the condition that drafts as many where these are
    other guesses.
    """
    own = trace.pair.lengths_apart and drafts < trace.spec.depth
    return Plan(f"{DRAFTING}{drafts}" if own else trace.reference, drafts)


def best_length(trace: Trace, costs: BatchCosts) -> tuple[Plan, Estimate | Absent]:
    """The draft length with the largest expected speed on the half that selects, and its speed on the other half."""
    plans = [at_length(trace, drafts) for drafts in range(1, trace.spec.depth + 1)]
    speeds = [(plan, trace.planned(speed(costs, "selecting"), plan, half="selecting")) for plan in plans]
    known = [(plan, one.value) for plan, one in speeds if isinstance(one, Estimate)]
    best = max(known, key=lambda pair: pair[1])[0] if known else plans[-1]
    return best, trace.planned(speed(costs, "judging"), best, half="judging")


def equally_fast(trace: Trace, costs: BatchCosts) -> tuple[int, ...]:
    """The draft lengths that cannot be told from the best one by speed, that among them: prompts and turns of the half that judges, the
    intervals for all lengths at once.
    """
    best = best_length(trace, costs)[0]
    others = {drafts: at_length(trace, drafts) for drafts in range(1, trace.spec.depth + 1) if drafts != best.drafts}
    held = {drafts: trace.planned(speed(costs, "judging"), one, best, "judging", len(others)) for drafts, one in others.items()}
    told_apart = {drafts for drafts, gain in held.items() if isinstance(gain, Absent) or not gain.low <= 1 <= gain.high}
    return tuple(sorted({best.drafts, *(held.keys() - told_apart)}))


def paying_length(trace: Trace, costs: BatchCosts) -> int:
    """The best draft length, 0 where even that is surely slower than plain decoding."""
    plan, worth = best_length(trace, costs)
    return 0 if surely_slower(worth) else plan.drafts


def advised_length(trace: Trace, costs: BatchCosts) -> int:
    """As `paying_length`, but the run's own length unless the best one is surely faster, by enough to change a setting for."""
    drafts, deepest = paying_length(trace, costs), trace.spec.depth
    if drafts in (0, deepest):
        return drafts
    plans = at_length(trace, drafts), at_length(trace, deepest)
    gain = trace.planned(speed(costs, "judging"), *plans, "judging", MOST_TRIALS)
    return drafts if isinstance(gain, Estimate) and gain.low > 1 and gain.value >= MINIMAL_GAIN else deepest


def surely_slower(speed_up: Estimate | Absent) -> bool:
    """Whether the whole interval of a speed over plain decoding lies below 1."""
    return isinstance(speed_up, Estimate) and speed_up.high < 1
