"""Held against scipy, and against tables."""

import numpy as np
import pytest
from scipy.special import expit, log_ndtr, stdtrit

from driftcli.statistics.distributions import log_normal_below, logistic, student_quantile


@pytest.mark.parametrize("tries", [1, 2, 3, 7, 28, 50])
def test_quantiles_of_students_t_are_scipys(tries: int) -> None:
    degrees = [*range(1, 130), 239, 500, 1999]
    ours = [student_quantile(one, 0.025 / tries) for one in degrees]
    np.testing.assert_allclose(ours, stdtrit(degrees, 1 - 0.025 / tries), rtol=1e-12)


def test_quantiles_of_students_t_are_those_of_the_table() -> None:
    found = [round(student_quantile(degrees, 0.025), 3) for degrees in (1, 2, 3, 10, 30, 120)]
    assert found == [12.706, 4.303, 3.182, 2.228, 2.042, 1.980]
    assert student_quantile(4, 0.5) == pytest.approx(0, abs=1e-12)


def test_the_logarithm_of_the_normal_probability_is_scipys_from_one_end_to_the_other() -> None:
    x = np.concatenate([-np.logspace(8, 1.5, 500), np.linspace(-31, 36, 20001)])
    np.testing.assert_allclose([log_normal_below(float(one)) for one in x], log_ndtr(x), rtol=1e-12)
    assert log_normal_below(0.0) == pytest.approx(np.log(0.5))
    assert log_normal_below(50.0) == 0
    assert log_normal_below(-1e200) == -np.inf


def test_probabilities_of_logits_are_scipys_as_far_as_temperatures_go() -> None:
    x = np.linspace(-260, 260, 5201)
    np.testing.assert_allclose(logistic(x), expit(x), rtol=1e-12)


@pytest.mark.filterwarnings("error")
def test_probabilities_of_logits_in_float32_overflow_nowhere() -> None:
    x = np.linspace(-260, 260, 5201, dtype=np.float32)
    found = logistic(x)  # type: ignore[arg-type]  # as drafters' confidence is stored
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expit(x), rtol=1e-6, atol=1e-37)
