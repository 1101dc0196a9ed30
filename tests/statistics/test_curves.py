"""Every formula of design 2.2 on two prompts and three depths, worked by hand. Prompt A has 10 anchors, prompt B has 30."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from driftcli.domain import REGIONS, Absent, Estimate
from driftcli.statistics import curves
from driftcli.statistics.intervals import Bootstrap
from driftcli.statistics.walks import Floats, Sums
from driftcli.testing import Facts

BY_PROMPT: dict[str, list[list[float]] | list[float]] = {
    "anchors": [10, 30],
    "sink_anchors": [10, 0],  # B has no sink
    "accepted": [6, 39],
    "fresh_accepted": [10, 50],
    "kept_at": [[6, 2, 0], [26, 18, 8]],
    "walk_rounds": [4, 10],
    "walk_kept_at": [[3, 2, 1], [9, 6, 3]],
    "rounds_by_length": [[6, 5, 4], [14, 11, 10]],
    "kept_by_length": [[4, 5, 6], [8, 15, 18]],
    "forced_proposed": [[10, 9, 5], [30, 27, 15]],
    "fresh_match": [[6, 5, 4], [26, 25, 20]],  # 32, 30, 24 of 40
    "forced_match": [[6, 3, 1], [26, 21, 11]],  # 32, 24, 12 of 40
    "fresh_rms": [[20, 20, 20], [60, 60, 60]],
    "forced_rms": [[20, 35, 60], [60, 85, 100]],  # 80, 120, 160 against 80
    "forced_state_cosine": [[10, 9, 4], [30, 27, 20]],
    "fresh_sink": [[5, 5, 6], [0, 0, 0]],
    "forced_sink": [[5, 4, 2], [0, 0, 0]],
    "fresh_template": [[2, 2, 1], [6, 6, 5]],
    "forced_template": [[2, 2, 1], [6, 5, 3]],
    "fresh_prompt": [[2, 2, 1], [14, 14, 11]],
    "forced_prompt": [[2, 1, 1], [14, 11, 7]],
    "fresh_verified": [[1, 1, 1], [10, 8, 7]],
    "forced_verified": [[1, 1, 1], [10, 7, 5]],
    "fresh_ahead": [[0, 0, 1], [0, 2, 7]],
    "forced_ahead": [[0, 2, 5], [0, 7, 15]],
    "fresh_recent": [[4, 4, 4], [12, 12, 12]],
    "forced_recent": [[4, 6, 8], [12, 14, 16]],
    "fresh_entropy": [[20, 20, 20], [60, 60, 60]],
    "forced_entropy": [[20, 25, 30], [60, 75, 90]],
}
EACH = {name: np.array(values, dtype=float) for name, values in BY_PROMPT.items()}
SUMS = {name: values.sum(axis=0, keepdims=True) for name, values in EACH.items()}


def at(values: NDArray[np.float64]) -> list[float]:
    """The three depths of the one pooled draw."""
    return values[0].tolist()


def without(**changed: list[float]) -> dict[str, NDArray[np.float64]]:
    return {**SUMS, **{name: np.array([values]) for name, values in changed.items()}}


def test_the_hand_made_shares_sum_to_the_anchors_in_both_feeds() -> None:
    for feed in ("fresh", "forced"):
        whole = np.sum([EACH[f"{feed}_{region}"] for region in REGIONS], axis=0)
        assert whole.tolist() == [[10, 10, 10], [30, 30, 30]]


def test_accuracies_are_right_guesses_over_all_anchors() -> None:
    assert at(curves.fresh_accuracy(SUMS)) == pytest.approx([0.8, 0.75, 0.6])
    assert at(curves.forced_accuracy(SUMS)) == pytest.approx([0.8, 0.6, 0.3])


def test_the_accuracy_gap_is_control_minus_forced() -> None:
    assert at(curves.accuracy_gap(SUMS)) == pytest.approx([0, 0.15, 0.3])


def test_the_handoff_is_the_gap_at_depth_2_relative_to_the_control_there() -> None:
    assert curves.handoff(SUMS) == pytest.approx([0.15 / 0.75])  # 0.2


def test_compounding_is_the_relative_gap_less_the_handoff_and_undefined_at_depth_1() -> None:
    first, second, third = at(curves.compounding(SUMS))
    assert np.isnan(first)
    assert second == pytest.approx(0)
    assert third == pytest.approx(0.3 / 0.6 - 0.2)  # 0.3


def test_a_chain_of_one_has_neither_handoff_nor_compounding() -> None:
    sums = {name: values[:, :1] if values.ndim == 2 else values for name, values in SUMS.items()}
    assert np.isnan(curves.handoff(sums)).all()
    assert np.isnan(curves.compounding(sums)).all()


def test_compounding_is_undefined_where_no_control_is_right() -> None:
    found = at(curves.compounding(without(fresh_match=[32, 30, 0], forced_match=[32, 24, 0])))
    assert found[1] == pytest.approx(0)
    assert np.isnan(found[2])


def test_the_self_feeding_tax_is_the_share_of_accepted_fresh_drafts_that_the_chain_loses() -> None:
    assert curves.self_feeding_tax(SUMS) == pytest.approx([(60 - 45) / 60])  # 0.25


@pytest.mark.parametrize(("fresh_accepted", "absent"), [(3.9, True), (4.1, False)])
def test_the_tax_is_null_below_a_tenth_of_an_accepted_fresh_draft(fresh_accepted: float, absent: bool) -> None:
    class Pooled(Facts):
        def estimate(self, statistic: Callable[[Sums], Floats], condition: str = "baseline") -> Estimate | Absent:
            value = float(statistic(without(fresh_accepted=fresh_accepted, accepted=2.0))[0])  # 40 anchors: 0.0975 and 0.1025
            return Estimate(value, value, value, 2)

    tax = curves.estimate_tax(Pooled())
    assert isinstance(tax, Absent) == absent
    assert absent or tax == Estimate(*[(4.1 - 2) / 4.1] * 3, 2)


def test_the_state_ratio_is_that_of_the_sums() -> None:
    # the mean of the prompts' ratios at depth 3 would be (60/20 + 100/60) / 2 = 2.33
    assert at(curves.rms_ratio(SUMS)) == pytest.approx([1, 1.5, 2])
    assert at(curves.rms("forced")(SUMS)) == pytest.approx([2, 3, 4])
    assert at(curves.state_cosine(SUMS)) == pytest.approx([1, 0.9, 0.6])


def test_the_regions_sum_to_one_also_where_only_some_trajectories_have_a_sink() -> None:
    assert at(curves.share("forced", "sink")(SUMS)) == pytest.approx([5 / 40, 4 / 40, 2 / 40])
    assert at(curves.region_change("sink")(SUMS)) == pytest.approx([0, -1 / 40, -4 / 40])
    shares = [at(curves.share("forced", name)(SUMS)) for name in REGIONS]
    assert np.sum(shares, axis=0) == pytest.approx([1, 1, 1])


def test_without_a_sink_anywhere_its_share_is_undefined_and_the_other_regions_stand() -> None:
    sums = without(sink_anchors=0.0)
    assert np.isnan(curves.share("forced", "sink")(sums)).all()
    assert at(curves.share("forced", "ahead")(sums)) == pytest.approx([0, 9 / 40, 20 / 40])


def test_a_region_change_is_signed_chain_minus_control() -> None:
    assert at(curves.region_change("ahead")(SUMS)) == pytest.approx([0, 7 / 40, 12 / 40])
    assert at(curves.region_change("prompt")(SUMS)) == pytest.approx([0, -4 / 40, -4 / 40])
    assert at(curves.region_change("recent")(SUMS)) == pytest.approx([0, 4 / 40, 8 / 40])


def test_the_prompt_side_is_sink_template_and_prompt_over_all_anchors() -> None:
    assert at(curves.prompt_side_change(SUMS)) == pytest.approx([0, (-1 - 1 - 4) / 40, (-4 - 2 - 4) / 40])


def test_attention_drift_is_half_the_absolute_change_over_the_five_regions() -> None:
    # depth 3: sink -4, template -2, prompt -4, verified -2, ahead +12: 24 / 2 / 40; `recent` is no region
    assert at(curves.attention_drift(SUMS)) == pytest.approx([0, 7 / 40, 12 / 40])


def test_the_walk_gives_the_acceptance_length_and_its_depths() -> None:
    assert at(curves.joint_walk(SUMS)) == pytest.approx([12 / 14, 8 / 14, 4 / 14])
    assert curves.walk_acceptance_length(SUMS) == pytest.approx([1 + 24 / 14])
    assert at(curves.joint(SUMS)) == pytest.approx([32 / 40, 20 / 40, 8 / 40])


def test_a_proposal_counts_by_the_anchors_that_have_one() -> None:
    assert at(curves.proposed(SUMS)) == pytest.approx([1, 0.9, 0.5])


def test_every_draft_length_has_its_own_walk() -> None:
    assert at(curves.length_by_draft_length(SUMS)) == pytest.approx([1 + 12 / 20, 1 + 20 / 16, 1 + 24 / 14])


def test_entropy_is_the_mean_over_anchors() -> None:
    assert at(curves.entropy("forced")(SUMS)) == pytest.approx([2, 2.5, 3])


def test_every_curve_pools_draws_in_one_pass_as_it_does_one_by_one() -> None:
    known = {name: curve for name, curve in curves.BY_DEPTH.items() if not name.startswith("free")}
    bootstrap = Bootstrap.of(2, 0, least=2)
    for name, curve in known.items():
        found = bootstrap.estimates(EACH, curve)
        assert len(found) == 3, name
        alone = [one.value if isinstance(one, Estimate) else np.nan for one in found]
        np.testing.assert_allclose(alone, at(curve(SUMS)), err_msg=name)
        assert all(one.low <= one.high for one in found if isinstance(one, Estimate)), name


def test_right_guesses_over_expected_ones_are_counted_bin_by_bin() -> None:
    own = np.array([[10.0, 20.0, 5.0, 5.0, 10.0, 5.0]])  # guesses in three bins of certainty, then right ones
    others = np.array([[100.0, 100.0, 0.0, 20.0, 50.0, 0.0]])  # 20% and 50% right, and none as sure as the third bin
    assert curves.over_expected(own, others).tolist() == [(5 + 10) / (10 * 0.2 + 20 * 0.5)]


def test_calibration_error_is_the_distance_within_each_bin_and_overconfidence_their_sum() -> None:
    sums = {
        "guesses_by_confidence": np.array([[[10.0, 10.0]]]),
        "right_by_confidence": np.array([[[4.0, 9.0]]]),
        "probability_by_confidence": np.array([[[2.0, 9.5]]]),
    }
    assert curves.calibration_error(sums)[0, 0] == pytest.approx((2 + 0.5) / 20)
    assert curves.overconfidence(sums)[0, 0] == pytest.approx((-2 + 0.5) / 20)


def test_misses_outside_the_vocabulary_are_a_share_of_all_misses() -> None:
    sums = {"anchors": np.array([100.0]), "forced_covered": np.array([[90.0]]), "forced_match": np.array([[60.0]])}
    assert curves.covered(sums)[0] == 0.9
    assert curves.misses_outside(sums)[0] == 0.25
