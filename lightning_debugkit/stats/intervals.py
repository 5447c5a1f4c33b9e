"""An error, or the gap between two, with the interval that its samples leave open."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from scipy.special import stdtrit
from scipy.stats import binomtest

Side = Literal["above", "below", "across", "unknown"]


@dataclass(frozen=True)
class Interval:
    """A number and the bounds that its samples leave open."""

    value: float  # the estimate
    low: float  # lower bound, nan where nothing is known of the uncertainty
    high: float  # upper bound, likewise
    n: int | None = None  # samples behind it; None for a number that comes from no sample

    @classmethod
    def around(cls, value: float, half: float, n: int | None = None) -> Interval:
        """Return the interval that reaches ``half`` to either side."""
        return cls(value, value - half, value + half, n)

    def __neg__(self) -> Interval:
        return Interval(-self.value, -self.high, -self.low, self.n)

    @property
    def side(self) -> Side:
        """Where the interval lies against zero: what the samples can tell of the sign.

        >>> Interval(0.2, 0.1, 0.3).side, Interval(0.2, -0.1, 0.5).side, bare_interval(0.2).side
        ('above', 'across', 'unknown')
        """
        if math.isnan(self.low) or math.isnan(self.high):
            return "unknown"
        if self.low > 0:
            return "above"
        return "below" if self.high < 0 else "across"


def exact(value: float) -> Interval:
    """Return a number that is known, such as a goal or the error of all samples there are."""
    return Interval(value, value, value)


def bare_interval(value: float, n: int | None = None) -> Interval:
    """Return a number of whose uncertainty nothing is known: no gap with it is ever beyond doubt."""
    return Interval(value, math.nan, math.nan, n)


def quantile(level: float) -> float:
    """Return how many standard deviations either side of a normal mean hold ``level`` of it.

    >>> quantile(0.95)
    1.959964
    """
    if not 0 < level < 1:
        raise ValueError(f"An interval needs a level between 0 and 1, got {level!r}; 0.95 is usual.")
    return NormalDist().inv_cdf((1 + level) / 2)


def student_reach(level: float, freedom: float) -> float:
    """Return how many standard errors either side of a mean hold it with ``level``, by Student's t.

    >>> student_reach(0.5, freedom=1)  # Cauchy's distribution
    1.0
    """
    quantile(level)
    return float(stdtrit(freedom, (1 + level) / 2))


def wilson(wrong: int, n: int, level: float = 0.95, population: int | None = None) -> Interval:
    """Return Wilson's score interval of a rate.

    .. math:: \\frac{p + z^2/2n \\pm z \\sqrt{p(1-p)/n + z^2/4n^2}}{1 + z^2/n}

    Args:
        wrong: Samples of the kind that is counted.
        n: Samples looked at.
        level: Share of such intervals that hold the true rate.
        population: Size of the finite set whose rate is wanted, if the ``n`` were drawn from it without replacement:
            the larger the share that was looked at, the less is open, and nothing if it was all of them.

    >>> found = wilson(0, 10)  # no mistake in ten: an error of 28 % is still possible
    >>> found.low, found.high  # z^2 / (n + z^2) with z = 1.96
    (0.0, 0.2775)
    >>> wilson(3, 10, population=10)
    Interval(value=0.3, low=0.3, high=0.3, n=10)

    References:
        Wilson, Probable Inference, the Law of Succession, and Statistical Inference, 1927. Brown, Cai and DasGupta,
        Interval Estimation for a Binomial Proportion, 2001, advise it. Finite populations: Cochran, Sampling
        Techniques, 3rd edition 1977, section 3.3: ``n (N - 1) / (N - n)`` samples of an endless one weigh as much.
    """
    _check(wrong, n)
    z = quantile(level)
    if n == 0:
        return Interval(math.nan, 0.0, 1.0, 0)
    rate, weight, least, most = wrong / n, float(n), 0.0, 1.0
    if population is not None:
        if population < n:
            raise ValueError(f"wilson needs population >= n, got {population!r} for n={n!r}; leave it out if unknown.")
        if population == n:
            return Interval(rate, rate, rate, n)
        weight *= (population - 1) / (population - n)
        # What was seen is in the population: neither kind can be rarer there.
        least, most = wrong / population, 1 - (n - wrong) / population
    low, high = _score(rate, weight, z)
    return Interval(rate, max(low, least) if wrong else 0.0, min(high, most) if wrong < n else 1.0, n)


def _score(rate: float, n: float, z: float) -> tuple[float, float]:
    """The roots of (p - rate)^2 = z^2 p (1 - p) / n."""
    middle = rate + z * z / (2 * n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def clopper_pearson(wrong: int, n: int, level: float = 0.95) -> Interval:
    """Return the interval of a rate that holds it with at least ``level``, whatever the rate.

    It covers more than ``level`` where samples are few: choose it where missing the rate is worse than a wide interval.

    >>> found = clopper_pearson(0, 10)
    >>> found.low, found.high  # 1 - 0.025 ** (1 / 10)
    (0.0, 0.3085)

    References:
        Clopper and Pearson, The Use of Confidence or Fiducial Limits, 1934, by quantiles of the beta distribution.
    """
    _check(wrong, n)
    quantile(level)
    if n == 0:
        return Interval(math.nan, 0.0, 1.0, 0)
    low, high = binomtest(wrong, n).proportion_ci(level)
    return Interval(wrong / n, float(low), float(high), n)


def difference_interval(after: Interval, before: Interval) -> Interval:
    """Return ``after - before`` of two independent sets.

    Of two Wilson intervals it makes Newcombe's hybrid score interval; with an exact ``before``, the interval of
    ``after`` moved by it.

    >>> found = difference_interval(wilson(20, 100), exact(0.2))
    >>> found.value, found.low, found.high
    (0.0, -0.0666, 0.0888)

    References:
        Newcombe, Interval Estimation for the Difference between Independent Proportions, 1998, method 10. Zou and
        Donner, Construction of Confidence Limits about Effect Measures, 2008: the same for any two intervals.
    """
    value = after.value - before.value
    down = math.hypot(after.value - after.low, before.high - before.value)
    up = math.hypot(after.high - after.value, before.value - before.low)
    return Interval(value, value - down, value + up)


def _check(wrong: int, n: int) -> None:
    if not 0 <= wrong <= n:
        raise ValueError(f"A rate needs 0 <= wrong <= n, got {wrong!r} of {n!r}; count the samples that are wrong.")
