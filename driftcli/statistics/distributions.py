"""The functions of probability that judging needs, in closed form: scipy has them too, and takes a tenth of a second to load."""

from __future__ import annotations

from functools import cache
from math import cos, erfc, log, log1p, pi, sin, sqrt, tan

import numpy as np

from driftcli.statistics.walks import Floats

HALVINGS = 60  # of an angle below a quarter turn, after which a float has no digit left
FAR = -30.0  # from where on five terms of the normal tail's series are exact to a float


@cache
def student_quantile(degrees: int, tail: float) -> float:
    """What Student's t of so many degrees of freedom exceeds with a probability of `tail`, up to one half."""
    low, high = 0.0, pi / 2
    for _ in range(HALVINGS):
        angle = (low + high) / 2
        low, high = (angle, high) if _within(angle, degrees) < 1 - 2 * tail else (low, angle)
    return sqrt(degrees) * tan(low)


def _within(angle: float, degrees: int) -> float:
    """Probability that Student's t lies between -x and x, for x = sqrt(degrees) tan(angle): a finite sum for whole degrees.

    Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4.
    """
    odd = degrees % 2
    total, term = (2 / pi * angle, 2 / pi * sin(angle) * cos(angle)) if odd else (0.0, sin(angle))
    for k in range(2 + odd, degrees + 1, 2):
        total += term
        term *= (k - 1) / k * cos(angle) ** 2
    return total


def log_normal_below(x: float) -> float:
    """Logarithm of the probability that a standard normal number lies below x."""
    if x < FAR:  # where the probability itself is too small for a float; Abramowitz and Stegun 1964, 26.2.12
        z = 1 / (x * x)
        return -x * x / 2 - log(-x * sqrt(2 * pi)) + log1p(-z * (1 - 3 * z * (1 - 5 * z * (1 - 7 * z))))
    return log(erfc(-x / sqrt(2)) / 2) if x < 0 else log1p(-erfc(x / sqrt(2)) / 2)


def logistic(x: Floats) -> Floats:
    """The probability whose logit is x, for each."""
    found: Floats = np.exp(-np.logaddexp(0, -x))  # 1 / (1 + exp(-x)) overflows for a float32 below -88
    return found
