"""Whether a gap between rates could be chance, exactly, where samples are too few for intervals to be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable

_LEAST_EXPECTED = 5


def could_be_chance(
    wrong: int, n: int, before: int | None = None, m: int | None = None, rate: float = 0.0, level: float = 0.95
) -> bool:
    """Tell whether counts this small are no proof that the second set is worse, though an interval may say so.

    Only where a cell of the table is expected to hold fewer than five samples: else intervals are good enough, and the
    answer is no. One-sided, at half of what ``level`` leaves, as one bound of an interval is.

    Args:
        wrong: Wrong samples of the set that looks worse.
        n: Its samples.
        before: Wrong samples of the set that it is compared with; ``None`` if it is compared with ``rate``.
        m: Samples of that set.
        rate: A known rate to compare with, such as a goal.
        level: Of the intervals.

    Example:
        >>> could_be_chance(1, 10, 0, 120), could_be_chance(4, 10, 0, 120)  # 10 of 130: 7.7 %
        (True, False)
        >>> could_be_chance(1, 10, rate=0.01)  # 1 - 0.99 ** 10 = 9.6 %
        True

    References:
        Fisher, Statistical Methods for Research Workers, 5th edition 1934, section 21.02. Cochran, Some Methods for
        Strengthening the Common Chi-squared Tests, 1954, for the five.
    """
    tail = (1 - level) / 2
    if before is None or m is None:
        if not n or min(n * rate, n * (1 - rate)) >= _LEAST_EXPECTED:
            return False
        return _binomial_tail(wrong, n, rate) >= tail
    total, all_wrong = n + m, wrong + before
    expected = (part * column / total for part in (n, m) for column in (all_wrong, total - all_wrong))
    if min(expected, default=0.0) >= _LEAST_EXPECTED:
        return False
    return hypergeometric_tail(wrong, n, all_wrong, total) >= tail


def _binomial_tail(k: int, n: int, rate: float) -> float:
    """The probability of ``k`` or more of ``n``."""
    if k <= n * rate:
        return 1.0  # not even more than expected
    if rate <= 0:
        return 0.0
    return _tail(k, n, lambda i: _log_ways(n, i) + i * math.log(rate) + (n - i) * math.log1p(-rate))


def hypergeometric_tail(k: int, n: int, marked: int, total: int) -> float:
    """Return the probability that ``k`` or more of ``marked`` among ``total`` are in a draw of ``n``.

    Example:
        >>> hypergeometric_tail(2, 2, 2, 4)  # both of two marked: 1 of the 6 draws of two
        0.1667
    """
    if k <= n * marked / total:
        return 1.0
    ways = _log_ways(total, n)
    last = min(n, marked)
    return _tail(k, last, lambda i: _log_ways(marked, i) + _log_ways(total - marked, n - i) - ways)


def _tail(first: int, last: int, log_probability: Callable[[int], float]) -> float:
    """Sum probabilities above their mean, where each is smaller than the one before, until they no longer matter."""
    found = 0.0
    for i in range(first, last + 1):
        term = math.exp(log_probability(i))
        found += term
        if term <= 1e-17 * found:
            break
    return found


def _log_ways(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) if 0 <= k <= n else -math.inf
