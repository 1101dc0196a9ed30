from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from driftcli.domain import Absent, Estimate
from driftcli.intervals import DRAWS, Bootstrap
from driftcli.stats import Sums, ratio


def share(sums: Sums) -> NDArray[np.float64]:
    return ratio(sums["part"], sums["whole"])


def counts(part: list[float], whole: list[float]) -> Sums:
    return {"part": np.array(part, dtype=float), "whole": np.array(whole, dtype=float)}


def test_the_value_is_the_ratio_of_sums_and_not_the_mean_of_ratios() -> None:
    found = Bootstrap.of(2, 0).estimate(counts([1, 9], [2, 10]), share)  # the mean of 1/2 and 9/10 would be 0.7
    assert isinstance(found, Estimate)
    assert found.value == 10 / 12
    assert (found.low, found.high) == (1 / 2, 9 / 10)  # one draw in four takes the same prompt twice


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
    found = Bootstrap.of(3, 0).estimate(counts([0, 3, 4], [0, 6, 5]), share)
    assert isinstance(found, Estimate)
    assert found.value == 7 / 11
    assert (found.low, found.high) == (3 / 6, 4 / 5)


def test_without_anything_to_divide_by_the_number_is_absent_and_says_why() -> None:
    found = Bootstrap.of(3, 0).estimate(counts([0, 0, 0], [0, 0, 0]), share)
    assert isinstance(found, Absent)
    assert "nothing to divide by" in found.reason


def test_one_absent_entry_leaves_the_others_standing() -> None:
    sums = {"part": np.array([[1.0, 0.0], [1.0, 0.0]]), "whole": np.array([[4.0, 0.0], [4.0, 0.0]])}
    there, missing = Bootstrap.of(2, 0).estimates(sums, share)
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


def test_an_interval_over_forty_prompts_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(11)
    prompts, data_sets, truth = 40, 400, 0.6
    whole = random.integers(20, 120, (prompts, data_sets))
    part = random.binomial(whole, random.beta(6, 4, (prompts, data_sets)))  # prompts differ: Beta(6, 4) has mean 0.6
    found = Bootstrap.of(prompts, 2).estimates({"part": part.astype(float), "whole": whole.astype(float)}, share)
    inside = [isinstance(one, Estimate) and one.low <= truth <= one.high for one in found]
    assert 0.88 <= np.mean(inside) <= 0.99


def test_anchors_counted_as_separate_evidence_would_hold_the_truth_far_too_seldom() -> None:
    random = np.random.default_rng(11)
    whole = random.integers(20, 120, (40, 400))
    part = random.binomial(whole, random.beta(6, 4, (40, 400)))
    pooled = part.sum(axis=0) / whole.sum(axis=0)
    half = 1.96 * np.sqrt(pooled * (1 - pooled) / whole.sum(axis=0))
    assert np.mean(np.abs(pooled - 0.6) <= half) < 0.7  # why prompts, and not anchors, are drawn
