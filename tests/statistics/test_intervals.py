from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from driftcli.domain import Absent, Estimate
from driftcli.statistics.curves import walk_acceptance_length
from driftcli.statistics.intervals import DRAWS, Bootstrap, unseen_share, widening, within
from driftcli.statistics.walks import Sums, ratio


def share(sums: Sums) -> NDArray[np.float64]:
    return ratio(sums["part"], sums["whole"])


def counts(part: list[float], whole: list[float]) -> Sums:
    return {"part": np.array(part, dtype=float), "whole": np.array(whole, dtype=float)}


def test_the_value_is_the_ratio_of_sums_and_not_the_mean_of_ratios() -> None:
    found = Bootstrap.of(2, 0, least=2).estimate(counts([1, 9], [2, 10]), share)  # the mean of 1/2 and 9/10 would be 0.7
    assert isinstance(found, Estimate)
    assert found.value == 10 / 12
    wider = np.sqrt(2) * 12.7062 / 1.959964  # one draw in four takes the same prompt twice, and two prompts say little of others
    assert (found.low, found.high) == pytest.approx((10 / 12 - wider * (10 / 12 - 1 / 2), 10 / 12 + wider * (9 / 10 - 10 / 12)), rel=1e-5)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    random = np.random.default_rng(3)
    sums = counts(random.integers(0, 50, 30).tolist(), [50] * 30)
    first, again, other = (Bootstrap.of(30, seed).estimate(sums, share) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_prompts_that_are_all_alike_leave_no_uncertainty() -> None:
    assert Bootstrap.of(12, 1).estimate(counts([3] * 12, [4] * 12), share) == Estimate(0.75, 0.75, 0.75, 12)


def test_every_draw_takes_as_many_prompts_as_there_are() -> None:
    weights = Bootstrap.of(7, 0).weights
    assert weights.shape == (DRAWS, 7)
    assert (weights.sum(axis=1) == 7).all()


def test_a_prompt_with_nothing_to_divide_by_neither_counts_nor_breaks_the_interval() -> None:
    found = Bootstrap.of(3, 0, least=2).estimate(counts([0, 3, 4], [0, 6, 5]), share)
    assert isinstance(found, Estimate)
    assert found.value == 7 / 11
    wider = np.sqrt(3 / 2) * 4.302653 / 1.959964
    assert (found.low, found.high) == pytest.approx((7 / 11 - wider * (7 / 11 - 3 / 6), 7 / 11 + wider * (4 / 5 - 7 / 11)), rel=1e-5)


def test_without_anything_to_divide_by_the_number_is_absent_and_says_why() -> None:
    found = Bootstrap.of(3, 0).estimate(counts([0, 0, 0], [0, 0, 0]), share)
    assert isinstance(found, Absent)
    assert "nothing to divide by" in found.reason


def test_one_absent_entry_leaves_the_others_standing() -> None:
    sums = {"part": np.array([[1.0, 0.0], [1.0, 0.0]]), "whole": np.array([[4.0, 0.0], [4.0, 0.0]])}
    there, missing = Bootstrap.of(2, 0, least=2).estimates(sums, share)
    assert there == Estimate(0.25, 0.25, 0.25, 2)
    assert isinstance(missing, Absent)


def test_two_statistics_of_one_run_see_the_same_draws() -> None:
    random = np.random.default_rng(0)
    part, whole = random.integers(1, 20, 25).astype(float), random.integers(20, 40, 25).astype(float)
    bootstrap = Bootstrap.of(25, 9)
    one = bootstrap.estimate({"part": part, "whole": whole}, share)
    twice = bootstrap.estimate({"part": 2 * part, "whole": whole}, share)
    assert isinstance(one, Estimate)
    assert isinstance(twice, Estimate)
    assert (twice.low, twice.high) == pytest.approx((2 * one.low, 2 * one.high), rel=1e-12)


def test_intervals_of_eight_prompts_are_wider_by_a_third_than_the_percentiles() -> None:
    assert widening(8) == pytest.approx(np.sqrt(8 / 7) * 2.364624 / 1.959964, rel=1e-6)
    assert widening(8, 50) == pytest.approx(np.sqrt(8 / 7) * 5.4079 / 1.959964, rel=1e-4)  # Student's 7 degrees at 0.0005, by a table
    assert widening(2000) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("prompts", "tries", "missed"), [(8, 1, 0.05), (16, 1, 0.05), (40, 1, 0.05), (12, 16, 0.05 / 16)])
def test_an_interval_misses_the_truth_about_as_often_as_it_says(prompts: int, tries: int, missed: float) -> None:
    random = np.random.default_rng(11)
    data_sets, truth = 4000, 0.6
    whole = random.integers(20, 120, (prompts, data_sets))
    part = random.binomial(whole, random.beta(6, 4, (prompts, data_sets)))  # prompts differ: Beta(6, 4) has mean 0.6
    found = Bootstrap.of(prompts, 2).estimates({"part": part.astype(float), "whole": whole.astype(float)}, share, tries)
    outside = np.mean([isinstance(one, Estimate) and not one.low <= truth <= one.high for one in found])
    assert outside <= missed * 1.3 + 4 * np.sqrt(missed / data_sets)


# ---- floors, ceilings, limits


def test_an_interval_stays_within_what_the_number_can_be() -> None:
    few = {"part": np.array([1.0, 10, 10]), "whole": np.array([10.0, 10, 10])}
    (bounded,), (free,) = (Bootstrap.of(3, 0, least=2).estimates(few, one) for one in (within(0, 1)(share), share))
    assert isinstance(bounded, Estimate) and isinstance(free, Estimate)
    assert free.high > 1
    assert (bounded.value, bounded.low, bounded.high) == (free.value, max(0.0, free.low), 1.0)


def lengths(rounds: float, kept: float, prompts: int) -> Sums:
    return {"rounds_by_length": np.full((prompts, 4), rounds), "kept_by_length": np.full((prompts, 4), kept)}


@pytest.mark.parametrize(
    ("rounds", "kept", "low", "high"),
    [
        (
            10,
            40,
            1 / ((1 - unseen_share(24)) / 5 + unseen_share(24)),
            5,
        ),  # the unseen ones may keep nothing, and take five times the rounds
        (50, 0, 1, 1 / ((1 - unseen_share(24)) + unseen_share(24) / 5)),
    ],
)
def test_where_all_or_no_drafts_are_kept_the_interval_is_what_so_many_prompts_cannot_exclude(
    rounds: float, kept: float, low: float, high: float
) -> None:
    found = Bootstrap.of(24, 0).estimate(lengths(rounds, kept, 24), walk_acceptance_length)
    assert isinstance(found, Estimate)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_a_share_of_prompts_that_none_of_so_many_shows_is_the_rule_of_three() -> None:
    assert (1 - unseen_share(24)) ** 24 == pytest.approx(0.05)
    assert unseen_share(80) == pytest.approx(3 / 80, rel=0.03)


def test_a_comparison_in_which_no_prompt_moves_leaves_a_share_of_others_that_may() -> None:
    sums = counts([3, 5, 2] * 4, [4, 6, 3] * 4)
    ratio_of = Bootstrap.of(12, 1).compared(sums, sums, share, ratio)
    apart = Bootstrap.of(12, 1).compared(sums, sums, share, np.subtract)
    unseen = unseen_share(12)
    assert ratio_of == Estimate(1.0, 1 - unseen, 1 / (1 - unseen), 12)
    assert isinstance(apart, Estimate)
    assert (apart.low, apart.high) == pytest.approx((-unseen * 10 / 13, unseen * 10 / 13))


@pytest.mark.parametrize("prompts", [1, 3, 7])
def test_fewer_prompts_than_decide_have_a_number_and_no_interval(prompts: int) -> None:
    found = Bootstrap.of(prompts, 0).estimate(counts([1] * prompts, [2] * prompts), share)
    words = f"{prompts} prompt{'s' * (prompts > 1)} with a chain, at least 8 are needed"
    assert found == Absent(words, 0.5, prompts)


def test_eight_prompts_have_an_interval() -> None:
    assert isinstance(Bootstrap.of(8, 0).estimate(counts([1] * 8, [2] * 8), share), Estimate)


def test_anchors_counted_as_separate_evidence_would_hold_the_truth_far_too_seldom() -> None:
    random = np.random.default_rng(11)
    whole = random.integers(20, 120, (40, 400))
    part = random.binomial(whole, random.beta(6, 4, (40, 400)))
    pooled = part.sum(axis=0) / whole.sum(axis=0)
    half = 1.96 * np.sqrt(pooled * (1 - pooled) / whole.sum(axis=0))
    assert np.mean(np.abs(pooled - 0.6) <= half) < 0.7  # why prompts, and not anchors, are drawn
