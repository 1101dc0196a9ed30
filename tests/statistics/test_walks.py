from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from driftcli.statistics.walks import acceptance_length, leading_matches, sampled_walk, walk, walk_counts

Matches = NDArray[np.bool_]


@st.composite
def matches(draw: st.DrawFn) -> Matches:
    """(anchor, depth) of right guesses; any pattern is possible."""
    anchors, depth = draw(st.integers(1, 30)), draw(st.integers(1, 8))
    bits = draw(st.lists(st.booleans(), min_size=anchors * depth, max_size=anchors * depth))
    return np.array(bits).reshape(anchors, depth)


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
