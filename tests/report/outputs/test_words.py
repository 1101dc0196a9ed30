from __future__ import annotations

import pytest

from driftcli.domain import Estimate
from driftcli.outcome import Check
from driftcli.report.outputs.words import decimals, facts, limit, measured, written


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (2.5, "", "2.50"),
        (0.0123, "", "0.0123"),
        (123.4, "", "123"),
        (999.96, "", "1,000"),
        (-0.0001, "share", "0.0%"),
        (0.123, "attention share", "12.3%"),
        (0.123, "share of accepted drafts", "12.3%"),
        (-0.395, "points of a share", "-39.5 pp"),
    ],
)
def test_numbers_have_three_digits_shares_percents_and_their_differences_points(value: float, unit: str, shown: str) -> None:
    assert written(value, unit, decimals(value)) == shown


def test_an_interval_has_as_many_decimals_as_its_largest_number_and_a_change_its_sign_and_its_band() -> None:
    check = Check("compare:expected_speed", "failed", "", None, Estimate(-0.62, -1.62, -0.006, 12), "times", 0.0449)
    assert facts(check)[1:] == [("change", "-0.62 [-1.62, -0.01] times, 12 prompts"), ("band", "±0.0449")]
    up = Check("compare:accuracy_8", "passed", "", None, Estimate(0.395, 0.29, 0.496, 1), "points of a share", 0.02)
    assert (measured(up), limit(up)) == ("+39.5 pp [+29.0 pp, +49.6 pp], 1 prompt", "±2.0 pp")


def test_a_unit_is_said_once_and_a_prompt_is_one() -> None:
    assert measured(Check("x", "failed", "", estimate=Estimate(0.5, 0.4, 0.6, 1), unit="share of accepted drafts")) == (
        "50.0% [40.0%, 60.0%] of accepted drafts, 1 prompt"
    )
