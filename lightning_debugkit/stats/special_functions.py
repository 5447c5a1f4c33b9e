"""The incomplete beta function and the quantiles that follow from it: beta, Student's t, binomial tails."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

_TINY = 1e-300


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function: the probability that a beta variable lies below ``x``.

    Example:
        >>> incomplete_beta(1, 1, 0.3), incomplete_beta(2, 1, 0.5)  # x, x ** 2
        (0.3, 0.25)

    References:
        NIST Digital Library of Mathematical Functions, 8.17.22: the continued fraction.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    # The fraction converges fast on this side of the mean; the other follows by symmetry.
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(front) / a * _fraction(a, b, x)


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction by Lentz's method; its length grows as the root of a + b."""
    numerator, denominator, value = 1.0, 0.0, 1.0
    for index in range(10 * int(math.sqrt(a + b)) + 1_000):
        m = index // 2
        if index == 0:
            term = 1.0
        elif index % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        denominator = 1 / (1 + term * denominator or _TINY)
        numerator = 1 + term / numerator or _TINY
        value *= numerator * denominator
        if index and abs(numerator * denominator - 1) < 1e-15:
            break
    return value - 1


def beta_quantile(probability: float, a: float, b: float) -> float:
    """Return the number that a beta variable lies below with ``probability``.

    Example:
        >>> beta_quantile(0.25, 2, 1)
        0.5
    """
    return _root(lambda x: incomplete_beta(a, b, x) - probability)


@lru_cache(maxsize=1024)
def student_quantile(probability: float, freedom: float) -> float:
    """Return the quantile of Student's t with ``freedom`` degrees of freedom.

    Example:
        >>> student_quantile(0.75, 1), student_quantile(0.25, 1)  # one degree is Cauchy's distribution
        (1.0, -1.0)
    """
    if probability < 0.5:
        return -student_quantile(1 - probability, freedom)
    x = beta_quantile(2 * probability - 1, 0.5, freedom / 2)
    return math.sqrt(freedom * x / (1 - x)) if x < 1 else math.inf


def _root(function: Callable[[float], float]) -> float:
    """Where an increasing function crosses zero on [0, 1], to the last bit."""
    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2) < high:
        low, high = (low, middle) if function(middle) >= 0 else (middle, high)
    return high
