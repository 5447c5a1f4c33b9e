"""Whether a gap between rates could be chance, exactly, for few samples and for two models on the same ones."""

from __future__ import annotations

from scipy import special
from scipy.stats import binomtest, hypergeom

from lightning_debugkit.stats.arrays import Numbers, flags

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

    >>> hypergeometric_tail(2, 2, 2, 4)  # both of two marked: 1 of the 6 draws of two
    0.1667
    """
    if k <= n * marked / total:
        return 1.0
    return float(hypergeom.sf(k - 1, total, marked, n))


def paired_counts(first_wrong: Numbers, second_wrong: Numbers) -> tuple[int, int, int, int]:
    """Count the samples that both, only the first, only the second and neither gets wrong.

    >>> paired_counts([1, 1, 0, 0], [1, 0, 0, 0])
    (1, 1, 0, 2)
    """
    first, second = flags(first_wrong), flags(second_wrong)
    if first.shape != second.shape:
        raise ValueError(f"paired_counts needs the same samples twice, got {first.shape} and {second.shape}.")
    both, one, other = int((first & second).sum()), int(first.sum()), int(second.sum())
    return both, one - both, other - both, first.size - one - other + both


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the probability of so uneven a split of the samples that only one gets wrong, were both equally good.

    >>> mcnemar(0, 3), mcnemar(4, 4)  # 2 / 2 ** 3: three tosses that fall alike
    (0.25, 1.0)

    References:
        McNemar, Note on the Sampling Error of the Difference between Correlated Proportions, 1947; the exact two-sided
        binomial test.
    """
    fewer, apart = min(only_first, only_second), only_first + only_second
    if fewer < 0:
        raise ValueError(f"mcnemar needs counts, got {only_first!r} and {only_second!r}; count samples.")
    return float(binomtest(fewer, apart).pvalue) if apart else 1.0
