from __future__ import annotations

import numpy as np
import pytest

from driftcli.traces.floors import DEFAULT, LOOP, PERIOD, SHORT, lookup_accepted, looping, others_favourites

RANDOM = np.random.default_rng(0)
TEXTS = [RANDOM.integers(0, size, 120).tolist() for size in (2, 3, 5, 40)] + [[1, 2, 3] * 40, [7] * 120]


def naive_lookup(ids: list[int], at: int, depth: int, fewest: int, most: int) -> int:
    """By searching the text from its beginning for the longest suffix that stands earlier in it."""
    for size in range(min(most, at + 1), fewest - 1, -1):
        suffix = ids[at + 1 - size : at + 1]
        for end in range(size - 1, at):
            if ids[end + 1 - size : end + 1] == suffix:
                draft = ids[end + 1 : at + 1][:depth]
                return next((place for place, token in enumerate(draft) if token != ids[at + 1 + place]), len(draft))
    return 0


def naive_looping(ids: list[int], first: int, at: int) -> bool:
    """By looking at the tokens one period before, for every period."""
    for period in range(1, PERIOD + 1):
        tokens = max(LOOP, period)
        if at - tokens - period + 1 >= first and ids[at - tokens + 1 : at + 1] == ids[at - tokens - period + 1 : at - period + 1]:
            return True
    return False


@pytest.mark.parametrize("sizes", [SHORT, DEFAULT])
@pytest.mark.parametrize("ids", TEXTS)
def test_a_lookup_keeps_what_a_search_of_the_text_keeps(ids: list[int], sizes: tuple[int, int]) -> None:
    found = lookup_accepted(ids, 20, 95, 4, sizes)
    assert found.tolist() == [naive_lookup(ids, at, 4, *sizes) for at in range(20, 115)]
    assert found.any() or (sizes == DEFAULT and len(set(ids)) > 4)


@pytest.mark.parametrize("ids", [*TEXTS, [*range(60), *range(50), *range(50), *range(60, 90)], [*range(70), *range(70), *range(70)]])
def test_circles_are_found_where_a_search_finds_them(ids: list[int]) -> None:
    assert looping(ids, 20, 90).tolist() == [naive_looping(ids, 20, at) for at in range(20, 110)]


def test_a_text_that_repeats_itself_goes_round_in_circles_and_a_random_one_does_not() -> None:
    assert looping([1, 2, 3] * 40, 0, 120)[LOOP + 3 :].all()
    assert not looping(RANDOM.integers(0, 40, 120).tolist(), 0, 120).any()
    assert not looping([1, 2], 0, 2).any()


def test_the_favourite_of_the_others_leaves_the_own_replies_out() -> None:
    replies = [[5] * 9 + [8], [7, 7, 8], [7, 7]]
    assert others_favourites(replies).tolist() == [7, 5, 5]
