from __future__ import annotations

import pytest

from driftcli.domain import Estimate
from driftcli.grades import Grades, lost


@pytest.mark.parametrize(
    ("low", "grade"), [(0.06, "mild"), (0.149, "mild"), (0.15, "moderate"), (0.34, "moderate"), (0.35, "severe"), (1.0, "severe")]
)
def test_a_grade_is_as_high_as_the_whole_interval_supports(low: float, grade: str) -> None:
    assert Grades().of(Estimate(1.0, low, 1.0, 10)) == grade


def test_a_loss_that_may_be_moderate_may_matter() -> None:
    assert Grades().may_matter(Estimate(0.0, -0.1, 0.15, 10))
    assert not Grades().may_matter(Estimate(0.0, -0.1, 0.149, 10))


def test_what_is_lost_is_what_is_not_kept_with_the_interval_turned_round() -> None:
    assert lost(Estimate(0.75, 0.5, 1.0, 10)) == Estimate(0.25, 0.0, 0.5, 10)
