from __future__ import annotations

import numpy as np
import pytest

from driftcli.domain import BASELINE, Absent, Estimate, Plan
from driftcli.mitigations.mitigation import Option, Trial
from driftcli.mitigations.trials import judged, tokens_a_round, verified_in_vain
from tests.mitigations.planned_trace import CHEAP, DEAR, DEPTH, PlannedTrace, decoded

USUAL = Plan(BASELINE, DEPTH)


def option(name: str) -> Option:
    return Option(name, Plan(name, DEPTH), USUAL)


def trial(name: str, *options: str) -> tuple[str, Trial]:
    return ("needs code", Trial(name, [option(one) for one in options or (name,)]))


def around(mean: float, spread: float) -> list[float]:
    """Kept drafts that differ by prompt, alike in both halves."""
    return [mean + spread * (place // 2 % 5 - 2) for place in range(10)]


def test_a_gain_that_only_the_selecting_half_shows_is_not_praised() -> None:
    lucky, steady = decoded([300, 100]), decoded(around(150, 5))  # even prompts select, odd ones judge
    trace = PlannedTrace({Plan("lucky", DEPTH): lucky, Plan("steady", DEPTH): steady})
    (found,) = judged(trace, [trial("t", "lucky", "steady")], CHEAP)  # type: ignore[arg-type, list-item]
    assert found.option == option("lucky")
    assert found.gain == Estimate(1.0, 1.0, 1.0, 20)
    assert not found.helps
    assert not found.costs


def test_a_gain_that_both_halves_show_helps_and_a_loss_costs() -> None:
    trace = PlannedTrace({Plan("good", DEPTH): decoded(around(150, 5)), Plan("bad", DEPTH): decoded(around(60, 5))})
    good, bad, nothing = judged(trace, [trial("good"), trial("bad"), trial("nothing")], None)  # type: ignore[arg-type, list-item]
    assert isinstance(good.gain, Estimate)
    assert good.gain.value == pytest.approx(250 / 200)
    assert (good.helps, good.costs) == (True, False)
    assert (bad.helps, bad.costs) == (False, True)
    assert nothing.gain == Estimate(1.0, 1.0, 1.0, 20)
    assert (nothing.helps, nothing.costs) == (False, False)


def test_at_equal_length_the_gain_in_speed_is_that_in_tokens_a_round() -> None:
    trace = PlannedTrace({Plan("good", DEPTH): decoded(around(150, 5))})
    by_tokens, by_speed = (judged(trace, [trial("good")], costs)[0].gain for costs in (None, DEAR))  # type: ignore[arg-type, list-item]
    assert isinstance(by_tokens, Estimate)
    assert isinstance(by_speed, Estimate)
    assert by_tokens.value == pytest.approx(by_speed.value)


def test_a_gain_below_two_per_cent_is_none() -> None:
    trace = PlannedTrace({Plan("tiny", DEPTH): decoded(102)})
    (found,) = judged(trace, [trial("tiny")], None)  # type: ignore[arg-type, list-item]
    assert isinstance(found.gain, Estimate)
    assert 1 < found.gain.low < 1.02
    assert not found.helps


def test_intervals_widen_with_the_trials_that_are_left_once_the_surest_has_fallen() -> None:
    doubtful = decoded(around(106, 9))
    plans = {Plan("doubtful", DEPTH): doubtful, Plan("sure", DEPTH): decoded(around(200, 3))}
    alone, beside, crowded = (
        judged(PlannedTrace(plans), [trial("doubtful"), *[trial(name) for name in others]], None)[0].gain  # type: ignore[arg-type, list-item]
        for others in ((), ("sure",), tuple(f"nothing-{n}" for n in range(20)))
    )
    assert isinstance(alone, Estimate)
    assert isinstance(beside, Estimate)
    assert isinstance(crowded, Estimate)
    assert alone.low > 1
    assert beside == alone  # the sure one falls first, and one is left
    assert crowded.low < alone.low


def test_shorter_chains_are_not_judged_without_costs() -> None:
    shorter = ("deployable", Trial("shorter", [Option("draft 1", Plan(BASELINE, 1), USUAL)]))
    (found,) = judged(PlannedTrace(), [shorter], None)  # type: ignore[arg-type, list-item]
    assert found.option is None
    assert isinstance(found.gain, Absent)
    assert "known by its costs alone" in found.gain.reason
    (timed,) = judged(PlannedTrace({Plan(BASELINE, 1): decoded(90, 1)}), [shorter], DEAR)  # type: ignore[arg-type, list-item]
    assert isinstance(timed.gain, Estimate)
    assert timed.gain.value == pytest.approx((190 / 3) / (200 / 9))  # tokens over seconds of 100 rounds


def test_an_option_without_a_number_is_passed_over_and_none_at_all_gives_the_reason() -> None:
    plans = {Plan("lost", DEPTH): Absent("it failed"), Plan("good", DEPTH): decoded(150)}
    some, none = judged(PlannedTrace(plans), [trial("t", "lost", "good"), trial("lost")], None)  # type: ignore[arg-type, list-item]
    assert some.option == option("good")
    assert (none.option, none.gain) == (None, Absent("it failed"))


def test_tokens_a_round_and_proposals_in_vain_of_rounds_of_unequal_length() -> None:
    sums = {"rounds_by_sent": np.array([[0.0, 10, 0, 5]]), "kept": np.array([12.0]), "anchors": np.array([50.0])}
    assert tokens_a_round(sums) == pytest.approx(1 + 12 / 15)
    assert verified_in_vain(sums) == pytest.approx((10 + 15 - 12) / (15 + 12))
