"""The mean of a number that each sample has, such as its loss, batch by batch and rank by rank."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightning_debugkit.stats.arrays import Numbers, floats
from lightning_debugkit.stats.intervals import Interval, bare_interval, quantile, student_reach


@dataclass(frozen=True)
class RunningMean:
    """Count, mean and spread of numbers seen in pieces.

    >>> both = RunningMean.of([1.0, 2.0]).merge(RunningMean.of([6.0]))
    >>> both.n, both.mean, both.variance
    (3, 3.0, 7.0)

    References:
        Chan, Golub and LeVeque, Algorithms for Computing the Sample Variance, 1983, eq. 2.1.
    """

    n: int = 0  # numbers seen
    mean: float = 0.0  # their mean
    m2: float = 0.0  # sum of their squared distances from it

    @classmethod
    def of(cls, values: Numbers) -> RunningMean:
        """Return the moments of ``values``, whatever their shape."""
        numbers = floats(values)
        if not numbers.size:
            return cls()
        mean = float(numbers.mean())
        return cls(numbers.size, mean, float(((numbers - mean) ** 2).sum()))

    def merge(self, other: RunningMean) -> RunningMean:
        """Return the moments of the numbers of both."""
        n = self.n + other.n
        if not n:
            return self
        apart = other.mean - self.mean
        mean = self.mean + apart * other.n / n
        return RunningMean(n, mean, self.m2 + other.m2 + apart * apart * self.n * other.n / n)

    @property
    def variance(self) -> float:
        """The unbiased variance of one number; nan of fewer than two."""
        return self.m2 / (self.n - 1) if self.n > 1 else math.nan

    def interval(self, level: float = 0.95, population: int | None = None) -> Interval:
        """Return Student's interval of the mean; without bounds where fewer than two numbers were seen.

        Args:
            level: Share of such intervals that hold the true mean.
            population: Size of the finite set whose mean is wanted, if these were drawn from it without replacement.

        References:
            Student, The Probable Error of a Mean, 1908. Finite populations: Cochran, Sampling Techniques, 3rd edition
            1977, eq. 2.20.
        """
        quantile(level)
        if population is not None and population < self.n:
            raise ValueError(f"Moments needs population >= n, got {population!r} for n={self.n!r}; leave it out.")
        if population == self.n and self.n:
            return Interval(self.mean, self.mean, self.mean, self.n)
        if self.n < 2:
            return bare_interval(self.mean if self.n else math.nan, self.n)
        seen = self.n / population if population else 0.0
        half = student_reach(level, self.n - 1) * math.sqrt(self.variance * (1 - seen) / self.n)
        return Interval.around(self.mean, half, self.n)
