from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from driftcli.statistics.costs import StepCosts
from driftcli.statistics.intervals import DRAWS
from driftcli.statistics.turns import Turns, never_falling
from tests.statistics.test_costs import speed_up

LENGTHS = (1, 2, 3, 5)


def turns(noise: float, seed: int = 0, count: int = 24, verify: tuple[float, ...] = (10.0, 11.0, 12.0, 14.0)) -> Turns:
    """Steps of a first draft of 1 second, 0.1 for each more token read, further drafts of 0.8, each turn off by factors of its own."""
    steps = np.array([1.0, 0.1, 0.8, *verify])
    return Turns(LENGTHS, steps * np.exp(np.random.default_rng(seed).normal(0, noise, (count, len(steps)))))


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=12))
def test_seconds_that_never_fall_are_those_of_an_isotonic_regression(values: list[float]) -> None:
    assert never_falling(np.array([values]))[0] == pytest.approx(isotonic_regression(values).x)


def test_the_point_is_the_medians_and_steps_between_timed_ones_lie_on_a_line() -> None:
    known = turns(0.0).point
    assert (known.first, known.read, known.step) == (pytest.approx([1.0]), pytest.approx([0.1]), pytest.approx([0.8]))
    assert known.verify[0] == pytest.approx([10, 11, 12, 13, 14])
    assert known.rounds(3)[0] == pytest.approx([10, 11 + 1, 12 + 1.8, 13 + 2.6])


def test_every_other_turn_chooses_and_the_rest_judge_and_few_turns_do_both() -> None:
    many, few = turns(0.1), turns(0.1, count=5)
    assert np.array_equal(many.halves["selecting"].seconds, many.seconds[0::2])
    assert np.array_equal(many.halves["judging"].seconds, many.seconds[1::2])
    assert few.halves["selecting"] is few and few.halves["judging"] is few


def test_drawn_turns_are_as_far_apart_as_new_turns_would_be() -> None:
    """The median of 24 turns, timed anew 400 times, against its spread by the draws of one timing."""
    anew = np.std([turns(0.2, seed).point.verify[0, 0] for seed in range(400)])
    told = np.mean([np.std(turns(0.2, seed).drawn.verify[:, 0]) for seed in range(20)])
    assert told == pytest.approx(anew, rel=0.35)
    assert turns(0.2).drawn.verify.shape == (DRAWS, 5)


def test_the_same_draw_of_turns_goes_with_every_draft_length() -> None:
    costs = StepCosts.timed(1, turns(0.3))
    rounds, kept = np.full(DRAWS, 100.0), np.full(DRAWS, 80.0)
    one, two = (speed_up(rounds, kept, costs, drafts) for drafts in (1, 2))
    assert np.corrcoef(one, two)[0, 1] > 0.3  # plain decoding's step is in both


def test_a_step_over_more_tokens_that_is_surely_faster_is_doubted_and_one_within_noise_is_not() -> None:
    doubt = turns(0.05, verify=(10.0, 14.0, 10.0, 14.0)).doubt
    assert doubt.startswith("a target step over 3 tokens took ") and "one over 2 tokens " in doubt and doubt.endswith("beyond noise")
    assert turns(0.05, verify=(10.0, 10.0, 9.5, 14.0)).doubt == ""  # half a tenth is what kernels do
    assert not any(turns(0.3, seed).doubt for seed in range(40))
