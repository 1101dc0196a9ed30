"""Trials judged: the best option of each on one half of the prompts, what it gives on the other, for all that were tried at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from driftcli.conditions import Plan
from driftcli.domain import Absent, Estimate, Half
from driftcli.mitigations.mitigation import Kind, Option, Trial
from driftcli.probe import Trace
from driftcli.statistics.costs import BatchCosts
from driftcli.statistics.payoff import MINIMAL_GAIN, speed
from driftcli.statistics.walks import Floats, Sums, acceptance_length, ratio


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


def judged(trace: Trace, trials: Sequence[tuple[Kind, Trial]], costs: BatchCosts | None) -> list[Outcome]:
    """Every trial's outcome, in the order given; a trial that no number tells anything of is absent with the reason."""
    chosen = [(kind, trial, best_option(trace, trial, costs)) for kind, trial in trials]
    tries = max(1, sum(isinstance(option, Option) for _, _, option in chosen))
    sure = _fallen(trace, [option for _, _, option in chosen if isinstance(option, Option)], costs)
    found = []
    for kind, trial, option in chosen:
        if isinstance(option, Absent):
            found.append(Outcome(trial.name, kind, None, option))
            continue
        gain = _gain(trace, option, costs, "judging", tries)
        fell = isinstance(gain, Estimate) and (option.words, option.plan) in sure
        helps = isinstance(gain, Estimate) and fell and gain.value >= MINIMAL_GAIN
        found.append(Outcome(trial.name, kind, option, gain, helps, isinstance(gain, Estimate) and fell and gain.value < 1))
    return found


def best_option(trace: Trace, trial: Trial, costs: BatchCosts | None) -> Option | Absent:
    """The option with the largest gain on the half that selects; the first of several."""
    able = [one for one in trial.options if costs or (one.plan.drafts == one.over.drafts and one.plan.stop is None)]
    if not able:
        return Absent("what fewer draft tokens save depends on step times, and none are known in this run")
    gains = [(option, _gain(trace, option, costs, "selecting")) for option in able]
    known = [(option, gain.value) for option, gain in gains if isinstance(gain, Estimate)]
    if not known:
        return next(gain for _, gain in gains if isinstance(gain, Absent))
    return max(known, key=lambda one: one[1])[0]


def helps_where_chosen(trace: Trace, option: Option, tries: int) -> bool:
    """Whether an option gives more tokens a round on the half that selects, beyond an interval for so many at once and by enough to change
    a setting for: what is put together with others is judged with them on the other half.
    """
    gain = _gain(trace, option, None, "selecting", tries)
    return isinstance(gain, Estimate) and gain.low > 1 and gain.value >= MINIMAL_GAIN


def _gain(trace: Trace, option: Option, costs: BatchCosts | None, half: Half, tries: int = 1) -> Estimate | Absent:
    """How many times the speed, or the tokens a round where no costs are known; turns of the steps go by halves as prompts do."""
    return trace.planned(speed(costs, half) if costs else tokens_a_round, option.plan, option.over, half, tries)


def _fallen(trace: Trace, options: Sequence[Option], costs: BatchCosts | None) -> set[tuple[str, Plan]]:
    """The options that surely do something, by the hypotheses that fall one after the other; every interval that is shown is for all of
    them at once, since those of a step-down are not. Source: Holm 1979.
    """
    left, fallen = list(options), set[tuple[str, Plan]]()
    while left:
        sure = [one for one in left if _excludes(_gain(trace, one, costs, "judging", len(left)))]
        fallen |= {(one.words, one.plan) for one in sure}
        left = [one for one in left if one not in sure] if sure else []
    return fallen


def _excludes(gain: Estimate | Absent) -> bool:
    return isinstance(gain, Estimate) and not gain.low <= 1 <= gain.high
