"""Two checkpoints on the same samples: whether one is better beyond the samples that only one gets wrong."""

from __future__ import annotations

from scipy.stats import binomtest

from lightning_debugkit.stats.arrays import Numbers, flags


def paired_counts(first_wrong: Numbers, second_wrong: Numbers) -> tuple[int, int, int, int]:
    """Count the samples that both, only the first, only the second and neither gets wrong.

    Example:
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
    return float(binomtest(fewer, apart).pvalue) if apart else 1.0
