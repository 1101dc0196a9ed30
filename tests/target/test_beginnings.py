from __future__ import annotations

import numpy as np
import pytest

from driftcli.target.beginnings import SHARED, Taken, beginnings, common, waves

ONE, OTHER = list(range(100, 160)), list(range(200, 260))
NOWHERE = list(range(300, 309))


def test_the_longest_beginning_is_taken_over_but_never_a_whole_prompt() -> None:
    prompts = [ONE[:10], ONE[:30], [*ONE[:20], 1], ONE[:30], OTHER, NOWHERE]
    assert beginnings(prompts, 0) == [Taken(), Taken(0, 10), Taken(1, 20), Taken(1, 29), Taken(), Taken()]


@pytest.mark.parametrize(("length", "taken"), [(SHARED - 1, Taken()), (SHARED, Taken(0, SHARED))])
def test_few_tokens_are_not_taken_over(length: int, taken: Taken) -> None:
    assert beginnings([ONE, [*ONE[:length], 1, 2]], 0)[1] == taken


@pytest.mark.parametrize(("a_pass", "taken"), [(60, Taken(1, 40)), (61, Taken(0, 20))])
def test_prompts_wait_for_a_pass_that_spares_as_many_tokens_in_all(a_pass: int, taken: Taken) -> None:
    prompts = [ONE[:20], ONE[:40], *([*ONE[:40], last] for last in (1, 2, 3))]
    assert beginnings(prompts, a_pass)[2:] == [taken] * 3, "twenty tokens each of three"


def test_where_nothing_is_worth_a_pass_every_prompt_is_read_whole() -> None:
    assert beginnings([ONE[:20], ONE[:40]], 20)[1] == Taken(0, 20)
    assert beginnings([ONE[:20], ONE[:40]], 21)[1] == Taken()


def test_a_prompt_waits_for_no_few_tokens_more() -> None:
    prompts = [ONE[:20], ONE[:30], [*ONE[: 20 + SHARED - 1], 1], [*ONE[: 20 + SHARED], 1]]
    assert beginnings(prompts, 0)[2:] == [Taken(0, 20), Taken(1, 20 + SHARED)]


def test_a_long_system_prompt_behind_a_head_that_others_share_is_read_once() -> None:
    head, system = ONE[:10], list(range(1000, 5000))
    prompts = [[*head, 1], *([*head, *system, last] for last in range(2, 9))]
    assert beginnings(prompts, 8192) == [Taken(), Taken(0, 10), *[Taken(1, 4010)] * 6]


def test_beginnings_are_those_that_a_naive_search_finds() -> None:
    random = np.random.default_rng(0)
    prompts = [random.integers(0, 2, random.integers(1, 60)).tolist() for _ in range(60)]
    for place, found in enumerate(beginnings(prompts, 0)):
        ids = prompts[place]
        alike = [min(common([ids, other]), len(ids) - 1) for other in prompts[:place]]
        longest = max(alike, default=0)
        if longest < SHARED:
            assert found == Taken()
        else:
            assert found.length == alike[found.place] > longest - SHARED


def test_waves_put_every_prompt_behind_what_it_takes_over() -> None:
    taken = [Taken(), Taken(0, 9), Taken(1, 9), Taken(), Taken(0, 9), Taken(4, 9)]
    prompts = [ONE[:length] for length in (10, 20, 30, 8, 15, 25)]
    assert waves(prompts, taken, range(6)) == [[3, 0], [4, 1], [5, 2]]
    assert waves(prompts, taken, range(2, 6)) == [[4, 3, 2], [5]], "what an earlier part has read is waited for by none"
