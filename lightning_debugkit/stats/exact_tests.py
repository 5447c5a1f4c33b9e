"""Whether a gap between rates could be chance, exactly, where samples are too few for intervals to be trusted."""

from __future__ import annotations

from scipy import special
from scipy.stats import hypergeom

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
        return wrong <= n * rate or bool(special.bdtrc(wrong - 1, n, rate) >= tail)
    total, all_wrong = n + m, wrong + before
    expected = (part * column / total for part in (n, m) for column in (all_wrong, total - all_wrong))
    if min(expected, default=0.0) >= _LEAST_EXPECTED:
        return False
    return hypergeometric_tail(wrong, n, all_wrong, total) >= tail


def hypergeometric_tail(k: int, n: int, marked: int, total: int) -> float:
    """Return the probability that ``k`` or more of ``marked`` among ``total`` are in a draw of ``n``.

    Example:
        >>> hypergeometric_tail(2, 2, 2, 4)  # both of two marked: 1 of the 6 draws of two
        0.1667
    """
    if k <= n * marked / total:
        return 1.0
    return float(hypergeom.sf(k - 1, total, marked, n))
