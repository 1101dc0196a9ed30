from __future__ import annotations

import pytest

from driftcli.conditions import BASELINE, Plan
from driftcli.domain import Estimate
from driftcli.mitigations.probe import MITIGATIONS
from driftcli.statistics.costs import StepCosts
from driftcli.statistics.payoff import MOST_TRIALS, advised_length, best_length, paying_length, undecided
from tests.mitigations.planned_trace import CHEAP, DEAR, planned
from tests.mitigations.test_probe import EVERYTHING


def test_the_best_length_is_chosen_on_one_half_and_priced_on_the_other() -> None:
    kept = {1: 60, 2: 90, 3: 100, 4: 101}
    trace = planned({Plan(BASELINE, drafts): count for drafts, count in kept.items()})
    plan, worth = best_length(trace, CHEAP)
    speeds = {drafts: (1 + count / 100) / (1 + 0.1 * drafts) for drafts, count in kept.items()}
    assert plan.drafts == max(speeds, key=lambda drafts: speeds[drafts])
    assert isinstance(worth, Estimate)
    assert worth.value == pytest.approx(speeds[plan.drafts])


@pytest.mark.parametrize(
    ("kept", "costs", "drafts"),
    [
        ([60], CHEAP, 1),  # 1.6 tokens in 1.1 steps' time
        ([60], DEAR, 0),  # 1.6 tokens in 3
        ([250, 250, 150, 150], StepCosts(1, 0.0, 0.0, (1.0, 3.0, 9.0, 9.0, 9.0)), 1),  # on some prompts it pays: not surely slower
    ],
)
def test_the_length_that_pays_is_none_only_where_the_best_is_surely_slower(kept: list[float], costs: StepCosts, drafts: int) -> None:
    plans = {Plan(BASELINE, 1): kept, **{Plan(BASELINE, more): kept for more in (2, 3, 4)}}
    assert paying_length(planned(plans), costs) == drafts


@pytest.mark.parametrize(
    ("kept", "drafts"),
    [
        ([100, 101, 99], 1),  # 2 tokens in 1.1 steps' time, against 2 in 1.4
        ([47, 30, 200, 60], 4),  # faster on average, but not on all prompts
        ([59], 4),  # 1.59 / 1.1 against 2 / 1.4: hardly faster
    ],
)
def test_another_length_than_the_runs_is_advised_only_where_it_is_surely_faster(kept: list[float], drafts: int) -> None:
    plans = {Plan(BASELINE, 1): kept, **{Plan(BASELINE, more): 60 for more in (2, 3)}}
    trace = planned(plans)
    assert best_length(trace, CHEAP)[0].drafts in (1, 4)
    assert advised_length(trace, CHEAP) == drafts


def test_no_advice_is_bolder_than_the_trial_of_the_same_length() -> None:
    trials = [trial for one in MITIGATIONS for trial in one.trials(planned(measured=EVERYTHING))]
    lengths_of_context = 5
    assert len(trials) + lengths_of_context + 2 <= MOST_TRIALS  # and renderings, and all together


def test_little_or_foreign_text_leaves_all_undecided() -> None:
    assert not undecided(planned())
    assert "15 prompts" in undecided(planned(prompts=15))
    assert "not the target's own" in undecided(planned(chosen=0.5))
