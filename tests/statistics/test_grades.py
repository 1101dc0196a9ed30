from __future__ import annotations

import numpy as np
import pytest

from driftcli.domain import Estimate
from driftcli.statistics.grades import Grades, chosen, lost, more_prompts, would_tell
from driftcli.statistics.intervals import student


@pytest.mark.parametrize(
    ("low", "grade"), [(0.06, "mild"), (0.149, "mild"), (0.15, "moderate"), (0.34, "moderate"), (0.35, "severe"), (1.0, "severe")]
)
def test_a_grade_is_as_high_as_the_whole_interval_supports(low: float, grade: str) -> None:
    assert Grades().of(Estimate(1.0, low, 1.0, 10)) == grade


@pytest.mark.parametrize(
    ("losses", "standing"),
    [
        ({"a": (0.2, 0.06, 0.34), "b": (0.0, -0.1, 0.1)}, ("found", "a")),
        ({"a": (0.1, 0.05, 0.15), "b": (0.0, -0.4, 0.4)}, ("straddles", "a")),
        ({"a": (0.1, -0.01, 0.2), "b": (0.0, -0.4, 0.4)}, ("open", "b")),
        ({"a": (0.1, 0.01, 0.19)}, ("open", "a")),  # one of four looks at the same pair
        ({"a": (0.06, 0.02, 0.1), "b": (0.0, -0.14, 0.14)}, ("sound", "b")),
    ],
)
def test_losses_stand_where_their_intervals_put_them(losses: dict[str, tuple[float, float, float]], standing: tuple[str, str]) -> None:
    assert Grades().standing({name: Estimate(*loss, 20) for name, loss in losses.items()}) == standing


def test_the_prompts_that_would_tell_grow_with_the_square_of_the_spread() -> None:
    """A spread of 0.15 must shrink to 0.15 / (1 + 0.84 / 1.96), so 16 prompts become 16 * 1.429^2 = 32.7, 17 more."""
    assert more_prompts(Estimate(0.0, -0.15, 0.15, 16), 0.05, 0.15, 16) == 17
    assert more_prompts(Estimate(0.0, -0.3, 0.3, 16), 0.05, 0.15, 16) == 120  # 16 * 5.71 - 16 = 114.6, to the next ten
    assert more_prompts(Estimate(0.0, -0.15, 0.15, 8), 0.05, 0.15, 16) == 17  # of the prompts that were asked, half have a number


def test_one_more_prompt_is_one() -> None:
    assert [would_tell(1), would_tell(2, " of each category"), would_tell(None)] == [
        "about 1 more prompt would tell",
        "about 2 more prompts of each category would tell",
        "more prompts would hardly tell",
    ]


def test_no_number_is_named_beyond_ten_times_the_prompts_or_where_none_would_do() -> None:
    assert more_prompts(Estimate(0.0, -0.5, 0.5, 16), 0.05, 0.15, 16) is None
    assert more_prompts(Estimate(0.05, 0.05, 0.05, 16), 0.05, 0.05, 16) is None


def test_a_loss_that_just_passed_is_taken_to_be_smaller_and_a_sure_one_for_what_it_is() -> None:
    just, sure = Estimate(0.22, 0.06, 0.38, 24), Estimate(0.6, 0.45, 0.75, 24)
    assert 0.06 <= chosen(just, 0.05, 7).value < 0.15
    assert chosen(sure, 0.05, 7).value == pytest.approx(0.6, abs=0.005)
    assert (chosen(just, 0.05, 7).low, chosen(just, 0.05, 7).high) == (0.06, 0.38)


def test_sizes_of_chosen_losses_are_right_on_average() -> None:
    """A true loss of 10%, seen with a spread of 5.4 points and reported only where its interval lies beyond 5%: as seen it is twice as large."""
    random, half = np.random.default_rng(0), 0.054 * student(24, 7)
    seen = [value for value in random.normal(0.1, 0.054, 20_000) if value - half > 0.05]
    told = [chosen(Estimate(value, value - half, value + half, 24), 0.05, 7).value for value in seen[:300]]
    assert np.mean(seen) > 0.21
    assert np.mean(told) < 0.13


def test_what_is_lost_is_what_is_not_kept_with_the_interval_turned_round() -> None:
    assert lost(Estimate(0.75, 0.5, 1.0, 10)) == Estimate(0.25, 0.0, 0.5, 10)
