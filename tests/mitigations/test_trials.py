from __future__ import annotations

import numpy as np
import pytest

from driftcli.conditions import BASELINE, Plan
from driftcli.domain import Absent, Estimate
from driftcli.mitigations.mitigation import Option, Trial
from driftcli.mitigations.trials import helps_where_chosen, judged, tokens_a_round, verified_in_vain
from driftcli.statistics.costs import StepCosts
from driftcli.statistics.intervals import unseen_share
from driftcli.statistics.turns import Turns
from tests.mitigations.planned_trace import CHEAP, DEAR, DEPTH, planned

USUAL = Plan(BASELINE, DEPTH)


def option(name: str) -> Option:
    return Option(name, Plan(name, DEPTH), USUAL)


def trial(name: str, *options: str) -> tuple[str, Trial]:
    return ("needs code", Trial(name, [option(one) for one in options or (name,)]))


def around(mean: float, spread: float) -> list[float]:
    """Kept drafts that differ by prompt, alike in both halves."""
    return [mean + spread * (place // 2 % 5 - 2) for place in range(10)]


def test_a_gain_that_only_the_selecting_half_shows_is_not_praised() -> None:
    lucky, steady = [300, 100], around(150, 5)  # even prompts select, odd ones judge
    trace = planned({Plan("lucky", DEPTH): lucky, Plan("steady", DEPTH): steady})
    (found,) = judged(trace, [trial("t", "lucky", "steady")], CHEAP)
    assert found.option == option("lucky")
    assert isinstance(found.gain, Estimate) and found.gain.value == pytest.approx(1)
    assert not found.helps
    assert not found.costs


def test_a_gain_that_both_halves_show_helps_and_a_loss_costs() -> None:
    trace = planned({Plan("good", DEPTH): around(150, 5), Plan("bad", DEPTH): around(60, 5)})
    good, bad, nothing = judged(trace, [trial("good"), trial("bad"), trial("nothing")], None)
    assert isinstance(good.gain, Estimate)
    assert good.gain.value == pytest.approx(250 / 200)
    assert (good.helps, good.costs) == (True, False)
    assert (bad.helps, bad.costs) == (False, True)
    assert nothing.gain == Estimate(1.0, 1 - unseen_share(20, 3), 1 / (1 - unseen_share(20, 3)), 20)  # for three trials at once
    assert (nothing.helps, nothing.costs) == (False, False)


def test_at_equal_length_the_gain_in_speed_is_that_in_tokens_a_round() -> None:
    trace = planned({Plan("good", DEPTH): around(150, 5)})
    by_tokens, by_speed = (judged(trace, [trial("good")], costs)[0].gain for costs in (None, DEAR))
    assert isinstance(by_tokens, Estimate)
    assert isinstance(by_speed, Estimate)
    assert by_tokens.value == pytest.approx(by_speed.value)


def test_a_gain_below_two_per_cent_is_none() -> None:
    trace = planned({Plan("tiny", DEPTH): 102})
    (found,) = judged(trace, [trial("tiny")], None)
    assert isinstance(found.gain, Estimate)
    assert 1 < found.gain.low < 1.02
    assert not found.helps


def test_every_interval_is_for_all_trials_at_once_and_the_word_for_those_that_are_left_once_the_surest_has_fallen() -> None:
    doubtful = around(106, 6)
    plans = {Plan("doubtful", DEPTH): doubtful, Plan("sure", DEPTH): around(200, 3)}
    alone, beside, crowded = (
        judged(planned(plans), [trial("doubtful"), *[trial(name) for name in others]], None)[0]
        for others in ((), ("sure",), tuple(f"nothing-{n}" for n in range(20)))
    )
    gains = [one.gain for one in (alone, beside, crowded)]
    assert all(isinstance(gain, Estimate) for gain in gains)
    lows = [gain.low for gain in gains if isinstance(gain, Estimate)]
    assert lows[0] > 1 and lows[0] > lows[1] > lows[2]
    assert (alone.helps, beside.helps, crowded.helps) == (True, True, lows[2] > 1)  # the sure one falls first, and one is left


def test_what_is_put_together_is_chosen_on_the_half_that_selects_alone() -> None:
    lucky, late = [300, 100], [100, 300]  # even prompts select, odd ones judge
    trace = planned({Plan("lucky", DEPTH): lucky, Plan("late", DEPTH): late})
    assert helps_where_chosen(trace, option("lucky"), 2)
    assert not helps_where_chosen(trace, option("late"), 2)


def timed(noise: float, seed: int, true: tuple[float, ...] = (1.0, 1.05, 1.1, 1.15, 1.2)) -> StepCosts:
    """Steps timed in 25 turns, each off by a factor of its own and a little of its own kind."""
    random = np.random.default_rng(seed)
    steps = np.array([0.05, 0.0, 0.05, *true])
    return StepCosts.timed(1, Turns((1, 2, 3, 4, 5), steps * np.exp(random.normal(0, noise, (25, len(steps))))))


def test_lengths_that_are_equally_fast_are_hardly_ever_told_apart_by_noise_of_a_third_in_the_times() -> None:
    """Every draft length is as fast by the true times, so whatever helps is the noise of a turn."""
    true, helped = (1.0, 1.05, 1.1, 1.15, 1.2), 0
    for seed in range(60):
        plans = {}
        for drafts in range(1, DEPTH + 1):
            seconds = 0.05 * drafts + true[drafts]
            kept = 100 * (1.6 * seconds / 1.4 - 1)
            plans[Plan(BASELINE, drafts)] = around(kept, 4)
        shorter = Trial("draft-length", [Option(f"draft {one}", Plan(BASELINE, one), USUAL) for one in range(1, DEPTH)])
        (found,) = judged(planned(plans), [("deployable", shorter)], timed(0.3, seed))
        helped += found.helps
    assert helped <= 2  # asked: 1% of re-timings; of 60 more than 2 would be 3 standard errors off


def test_shorter_chains_are_not_judged_without_costs() -> None:
    shorter = ("deployable", Trial("shorter", [Option("draft 1", Plan(BASELINE, 1), USUAL)]))
    (found,) = judged(planned(), [shorter], None)
    assert found.option is None
    assert isinstance(found.gain, Absent)
    assert "depends on step times" in found.gain.reason
    (timed,) = judged(planned({Plan(BASELINE, 1): 90}), [shorter], DEAR)
    assert isinstance(timed.gain, Estimate)
    assert timed.gain.value == pytest.approx((190 / 3) / (200 / 9))  # tokens over seconds of 100 rounds


def test_an_option_without_a_number_is_passed_over_and_none_at_all_gives_the_reason() -> None:
    plans = {Plan("lost", DEPTH): Absent("it failed"), Plan("good", DEPTH): 150}
    some, none = judged(planned(plans), [trial("t", "lost", "good"), trial("lost")], None)
    assert some.option == option("good")
    assert (none.option, none.gain) == (None, Absent("it failed"))


def test_tokens_a_round_and_proposals_in_vain_of_rounds_of_unequal_length() -> None:
    sums = {"rounds_by_sent": np.array([[0.0, 10, 0, 5]]), "kept": np.array([12.0]), "anchors": np.array([50.0])}
    assert tokens_a_round(sums) == pytest.approx(1 + 12 / 15)
    assert verified_in_vain(sums) == pytest.approx((10 + 15 - 12) / (15 + 12))
