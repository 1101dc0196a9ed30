"""Trials judged: the best option of each on one half of the prompts, what it gives on the other, Holm over all that were tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from driftcli.costs import StepCosts
from driftcli.domain import Absent, Estimate
from driftcli.mitigations.mitigation import Kind, Option, Trial
from driftcli.payoff import MINIMAL_GAIN, speed
from driftcli.probe import Trace
from driftcli.stats import Floats, Sums, acceptance_length, ratio


@dataclass(frozen=True, slots=True)
class Outcome:
    """The option of a trial that did best on the half that selects, or none with the reason, and its gain on the other half: how many times
    the speed, or the tokens a round where no costs are known. helps, costs: beyond its interval, which holds for all trials at once.
    """

    trial: str
    kind: Kind
    option: Option | None
    gain: Estimate | Absent
    helps: bool = False
    costs: bool = False


def tokens_a_round(sums: Sums) -> Floats:
    """Acceptance length of decoding by a plan; (draw,)."""
    return acceptance_length(sums["rounds_by_sent"].sum(axis=-1), sums["kept"])


def verified_in_vain(sums: Sums) -> Floats:
    """Proposals that were verified and not kept, a token that is committed; (draw,)."""
    rounds = sums["rounds_by_sent"]
    sent = (rounds * np.arange(rounds.shape[-1])).sum(axis=-1)
    return ratio(sent - sums["kept"], rounds.sum(axis=-1) + sums["kept"])


def judged(trace: Trace, trials: Sequence[tuple[Kind, Trial]], costs: StepCosts | None) -> list[Outcome]:
    """Every trial's outcome, in the order given; a trial that no number tells anything of is absent with the reason."""
    measure = speed(costs) if costs else tokens_a_round
    chosen = [(kind, trial, _best(trace, trial, measure, timed=costs is not None)) for kind, trial in trials]
    steps = _holm(trace, [option for _, _, option in chosen if isinstance(option, Option)], measure)
    found = []
    for kind, trial, option in chosen:
        if isinstance(option, Absent):
            found.append(Outcome(trial.name, kind, None, option))
            continue
        gain = trace.planned(measure, option.plan, option.over, "judging", steps[option.words, option.plan])
        helps = isinstance(gain, Estimate) and gain.low > 1 and gain.value >= MINIMAL_GAIN
        found.append(Outcome(trial.name, kind, option, gain, helps, isinstance(gain, Estimate) and gain.high < 1))
    return found


def _best(trace: Trace, trial: Trial, measure: Callable[[Sums], Floats], *, timed: bool) -> Option | Absent:
    """The option with the largest gain on the half that selects; the first of several."""
    able = [one for one in trial.options if timed or (one.plan.drafts == one.over.drafts and one.plan.stop is None)]
    if not able:
        return Absent("what a shorter chain saves is known by its costs alone; none are known in this run")
    gains = [(option, trace.planned(measure, option.plan, option.over, "selecting")) for option in able]
    known = [(option, gain.value) for option, gain in gains if isinstance(gain, Estimate)]
    if not known:
        return next(gain for _, gain in gains if isinstance(gain, Absent))
    return max(known, key=lambda one: one[1])[0]


def _holm(trace: Trace, options: Sequence[Option], measure: Callable[[Sums], Floats]) -> dict[tuple[str, object], int]:
    """For how many trials the interval of each must hold: for all that are left when the surest of them falls. Source: Holm 1979."""
    left, steps = list(options), dict[tuple[str, object], int]()
    while left:
        tries = len(left)
        sure = [one for one in left if _excludes(trace.planned(measure, one.plan, one.over, "judging", tries))]
        steps |= {(one.words, one.plan): tries for one in (sure or left)}
        left = [one for one in left if one not in sure] if sure else []
    return steps


def _excludes(gain: Estimate | Absent) -> bool:
    return isinstance(gain, Estimate) and not gain.low <= 1 <= gain.high
