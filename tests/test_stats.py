from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from driftcli.domain import Absent, Estimate
from driftcli.stats import DRAWS, Bootstrap, Sums, acceptance_length, leading_matches, ratio, sampled_walk, walk, walk_counts

Matches = NDArray[np.bool_]


@st.composite
def matches(draw: st.DrawFn) -> Matches:
    """(anchor, depth) of right guesses; any pattern is possible."""
    anchors, depth = draw(st.integers(1, 30)), draw(st.integers(1, 8))
    bits = draw(st.lists(st.booleans(), min_size=anchors * depth, max_size=anchors * depth))
    return np.array(bits).reshape(anchors, depth)


def share(sums: Sums) -> NDArray[np.float64]:
    return ratio(sums["part"], sums["whole"])


def counts(part: list[float], whole: list[float]) -> Sums:
    return {"part": np.array(part, dtype=float), "whole": np.array(whole, dtype=float)}


# ---- walks


def test_a_guess_counts_as_kept_only_while_none_before_it_was_wrong() -> None:
    match = np.array([[1, 1, 0, 1], [0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]], dtype=bool)
    assert leading_matches(match).tolist() == [2, 0, 4, 0]


@given(matches())
def test_leading_matches_are_those_of_a_plain_loop(match: Matches) -> None:
    assert leading_matches(match).tolist() == [next((d for d, right in enumerate(row) if not right), len(row)) for row in match.tolist()]


def test_the_walk_steps_over_what_was_kept_and_the_bonus_token() -> None:
    # 0 keeps 2 and goes to 3, which keeps 1 and goes to 5, which keeps none and goes to 6
    assert np.flatnonzero(walk(np.array([2, 0, 1, 1, 3, 0, 0]))).tolist() == [0, 3, 5, 6]


@given(matches())
def test_the_walk_starts_at_the_first_anchor_and_each_step_is_what_was_accepted_plus_one(match: Matches) -> None:
    accepted = leading_matches(match)
    visited = np.flatnonzero(walk(accepted))
    assert visited[0] == 0
    assert (np.diff(visited) == accepted[visited[:-1]] + 1).all()
    assert visited[-1] + accepted[visited[-1]] + 1 >= len(accepted)


def test_walk_counts_of_every_draft_length_by_hand() -> None:
    # length 1 keeps [1 0 1 1 0] and visits 0, 2, 4; lengths 2 and 3 keep [2 0 1 2 0] and [2 0 1 3 0] and visit 0, 3
    rounds, kept = walk_counts(np.array([2, 0, 1, 3, 0]), 3)
    assert rounds.tolist() == [3, 2, 2]
    assert kept.tolist() == [2, 4, 5]


@given(matches())
def test_the_count_at_the_full_draft_length_is_the_walk_itself(match: Matches) -> None:
    accepted = leading_matches(match)
    rounds, kept = walk_counts(accepted, match.shape[1])
    visited = walk(accepted)
    assert (rounds[-1], kept[-1]) == (visited.sum(), accepted[visited].sum())


@given(matches())
def test_acceptance_length_is_one_plus_the_sum_over_depths_of_the_rounds_that_got_that_far(match: Matches) -> None:
    accepted = leading_matches(match)
    kept_by_round = accepted[walk(accepted)]
    got_that_far = [(kept_by_round >= depth).mean() for depth in range(1, match.shape[1] + 1)]
    rounds, kept = walk_counts(accepted, match.shape[1])
    assert acceptance_length(rounds[-1:].astype(float), kept[-1:].astype(float))[0] == pytest.approx(1 + sum(got_that_far))


@given(matches())
def test_an_acceptance_length_lies_between_one_and_one_more_than_the_draft_length(match: Matches) -> None:
    rounds, kept = (counted.astype(float) for counted in walk_counts(leading_matches(match), match.shape[1]))
    lengths = acceptance_length(rounds, kept)
    assert (lengths >= 1).all()
    assert (lengths <= np.arange(2, match.shape[1] + 2)).all()


@given(anchors=st.integers(1, 40), depth=st.integers(1, 8))
def test_a_drafter_that_is_never_wrong_needs_one_round_for_each_draft_length_plus_one_tokens(anchors: int, depth: int) -> None:
    rounds, kept = walk_counts(np.full(anchors, depth), depth)
    assert rounds.tolist() == [ceil(anchors / (length + 1)) for length in range(1, depth + 1)]
    assert kept.tolist() == [number * length for length, number in enumerate(rounds, 1)]


@given(anchors=st.integers(1, 40), depth=st.integers(1, 8))
def test_a_drafter_that_is_always_wrong_commits_the_bonus_token_alone(anchors: int, depth: int) -> None:
    rounds, kept = (counted.astype(float) for counted in walk_counts(np.zeros(anchors, dtype=np.int64), depth))
    assert rounds.tolist() == [anchors] * depth
    assert acceptance_length(rounds, kept).tolist() == [1] * depth


# ---- intervals


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


def test_the_sampled_walk_of_certain_drafts_is_the_plain_walk() -> None:
    """Drafts that are surely kept or surely refused leave nothing to chance."""
    random = np.random.default_rng(5)
    for depth in (1, 3, 8):
        match = random.random((40, depth)) < 0.6
        rounds, kept = walk_counts(leading_matches(match), depth)
        assert sampled_walk(match.astype(float)) == pytest.approx((rounds[-1], kept[-1]))


def test_the_sampled_walk_expects_what_a_simulated_rejection_sampler_does() -> None:
    """A target and a drafter that both look at the last token; the sampler drafts, verifies and corrects as engines do."""
    random = np.random.default_rng(0)
    tokens, depth, length = 5, 4, 60_000
    target, draft = (random.dirichlet(np.full(tokens, 0.7), size=tokens) for _ in range(2))
    text = [0]
    draws = random.random(length)
    for draw in draws:
        text.append(int(np.searchsorted(target[text[-1]].cumsum(), draw).clip(max=tokens - 1)))
    before, wanted = np.array(text[:-1]), np.array(text[1:])
    accept = np.minimum(1, draft[before, wanted] / target[before, wanted])
    anchors = length - depth
    rounds, kept = sampled_walk(np.stack([accept[at : at + anchors] for at in range(depth)], axis=1))

    last, simulated = 0, []
    for _ in range(20_000):
        accepted = 0
        while accepted < depth:
            guess = int(random.choice(tokens, p=draft[last]))
            if random.random() >= min(1, target[last, guess] / draft[last, guess]):
                left = np.maximum(target[last] - draft[last], 0)
                last = int(random.choice(tokens, p=left / left.sum()))
                break
            last, accepted = guess, accepted + 1
        else:
            last = int(random.choice(tokens, p=target[last]))
        simulated.append(accepted)
    error = np.std(simulated) / np.sqrt(len(simulated))
    assert kept / rounds == pytest.approx(np.mean(simulated), abs=4 * error)
    assert 4 * error < 0.04
