from __future__ import annotations

import pytest

from driftcli.domain import Estimate
from driftcli.outcome import Check
from driftcli.report.outputs.words import measured, written


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (2.5, "", "2.50"),
        (0.0123, "", "0.0123"),
        (123.4, "", "123"),
        (999.7, "", "1,000"),
        (-0.0001, "share", "0.0%"),
        (0.123, "attention share", "12.3%"),
        (0.123, "share of accepted drafts", "12.3%"),
        (-0.395, "points of a share", "-39.5 pp"),
    ],
)
def test_numbers_have_three_digits_shares_percents_and_their_differences_points(value: float, unit: str, shown: str) -> None:
    assert written(value, unit) == shown


def test_a_unit_is_said_once_and_a_prompt_is_one() -> None:
    assert measured(Check("x", "failed", "", estimate=Estimate(0.5, 0.4, 0.6, 1), unit="share of accepted drafts")) == (
        "50.0% [40.0%, 60.0%] of accepted drafts, 1 prompt"
    )
