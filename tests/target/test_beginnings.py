from __future__ import annotations

import numpy as np
import pytest

from driftcli.target.beginnings import SHARED, Beginning, beginnings, waves

ONE, OTHER = list(range(100, 160)), list(range(200, 260))
NOWHERE = list(range(300, 309))


def test_the_longest_beginning_is_taken_over_but_never_a_whole_prompt() -> None:
    prompts = [ONE[:10], ONE[:30], [*ONE[:20], 1], ONE[:30], OTHER, NOWHERE]
    assert beginnings(prompts, 0) == [None, Beginning(0, 10), Beginning(1, 20), Beginning(1, 29), None, None]


@pytest.mark.parametrize(("length", "taken"), [(SHARED - 1, False), (SHARED, True)])
def test_few_tokens_are_not_taken_over(length: int, taken: bool) -> None:
    assert beginnings([ONE, [*ONE[:length], 1, 2]], 0)[1] == (Beginning(0, length) if taken else None)


def test_a_prompt_waits_for_fewer_others_where_that_costs_no_more_tokens_than_it_may() -> None:
    prompts = [ONE[:20], ONE[:40], ONE[:50]]
    assert [beginnings(prompts, slack)[2] for slack in (9, 10, 19, 20)] == [
        Beginning(1, 40), Beginning(1, 40), Beginning(1, 40), Beginning(0, 20)
    ]  # fmt: skip


def test_beginnings_are_those_that_a_naive_search_finds() -> None:
    random = np.random.default_rng(0)
    prompts = [random.integers(0, 2, random.integers(1, 60)).tolist() for _ in range(60)]
    for place, found in enumerate(beginnings(prompts, 0)):
        ids = prompts[place]
        alike = [next((at for at, (a, b) in enumerate(zip(ids, other, strict=False)) if a != b), min(len(ids), len(other))) for other in prompts[:place]]  # fmt: skip
        longest = max([min(one, len(ids) - 1) for one in alike], default=0)
        assert found is None if longest < SHARED else found is not None and found.length == longest and alike[found.place] >= longest


def test_waves_put_every_prompt_behind_what_it_takes_over() -> None:
    begun = [None, Beginning(0, 9), Beginning(1, 9), None, Beginning(0, 9), Beginning(4, 9)]
    prompts = [ONE[:length] for length in (10, 20, 30, 8, 15, 25)]
    assert waves(prompts, begun, range(6)) == [[3, 0], [4, 1], [5, 2]]
    assert waves(prompts, begun, range(2, 6)) == [[4, 3, 2], [5]], "what an earlier part has read is waited for by none"
