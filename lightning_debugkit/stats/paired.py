"""Two checkpoints on the same samples: their shared mistakes cancel, so much smaller gaps show."""

from __future__ import annotations

import math

from lightning_debugkit.stats.arrays import Numbers, flags
from lightning_debugkit.stats.intervals import Interval, wilson
from lightning_debugkit.stats.special_functions import incomplete_beta


def paired_counts(first_wrong: Numbers, second_wrong: Numbers) -> tuple[int, int, int, int]:
    """Count the samples that both, only the first, only the second and neither gets wrong.

    Example:
        >>> paired_counts([1, 1, 0, 0], [1, 0, 0, 0])
        (1, 1, 0, 2)
    """
    first, second = flags(first_wrong), flags(second_wrong)
    if first.shape != second.shape:
        raise ValueError(f"paired_counts needs the same samples twice, got {first.shape} and {second.shape}.")
    return tuple(int(kind.sum()) for kind in (first & second, first & ~second, ~first & second, ~(first | second)))  # type: ignore[return-value]


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the probability of so uneven a split of the samples that only one gets wrong, were both equally good.

    Example:
        >>> mcnemar(0, 3), mcnemar(4, 4)  # 2 / 2 ** 3: three tosses that fall alike
        (0.25, 1.0)

    References:
        McNemar, Note on the Sampling Error of the Difference between Correlated Proportions, 1947; the exact two-sided
        binomial test.
    """
    fewer, apart = min(only_first, only_second), only_first + only_second
    if fewer < 0:
        raise ValueError(f"mcnemar needs counts, got {only_first!r} and {only_second!r}; count samples.")
    # P(at most ``fewer`` of ``apart`` tosses), as the tail of a beta distribution.
    return min(1.0, 2 * incomplete_beta(apart - fewer, fewer + 1, 0.5)) if apart else 1.0


def paired_difference(both: int, only_first: int, only_second: int, neither: int, level: float = 0.95) -> Interval:
    """Return the error of the second less that of the first, on the same samples.

    Args:
        both: Samples that both get wrong.
        only_first: Samples that only the first gets wrong.
        only_second: Samples that only the second gets wrong.
        neither: Samples that neither gets wrong.
        level: Share of such intervals that hold the true difference.

    Example:
        >>> found = paired_difference(20, 10, 10, 960)
        >>> found.value, round(found.low + found.high, 9)
        (0.0, 0.0)

    References:
        Newcombe, Improved Confidence Intervals for the Difference between Binomial Proportions Based on Paired Data,
        1998, method 10: Wilson intervals combined with a correlation that is corrected for continuity.
    """
    n = both + only_first + only_second + neither
    if n == 0:
        return Interval(math.nan, -1.0, 1.0, 0)
    first, second = wilson(both + only_first, n, level), wilson(both + only_second, n, level)
    phi = _correlation(both, only_first, only_second, neither)
    value = (only_second - only_first) / n
    down = _distance(second.value - second.low, first.high - first.value, phi)
    up = _distance(second.high - second.value, first.value - first.low, phi)
    return Interval(value, value - down, value + up, n)


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    """Phi of the four-fold table, nearer to zero by the continuity correction where it is positive."""
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if not margins:
        return 0.0
    cross = both * neither - only_first * only_second
    if cross > 0:
        cross = max(cross - (both + only_first + only_second + neither) / 2, 0)  # type: ignore[assignment]
    return cross / math.sqrt(margins)


def _distance(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(one * one - 2 * phi * one * other + other * other, 0.0))
