"""The incomplete beta function and the quantiles that follow from it: plain numbers of scipy's."""

from __future__ import annotations

from functools import lru_cache

from scipy import special


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function: the probability that a beta variable lies below ``x``.

    Example:
        >>> incomplete_beta(1, 1, 0.3), incomplete_beta(2, 1, 0.5)  # x, x ** 2
        (0.3, 0.25)
    """
    return float(x >= 1) if x <= 0 or x >= 1 else float(special.betainc(a, b, x))


def beta_quantile(probability: float, a: float, b: float) -> float:
    """Return the number that a beta variable lies below with ``probability``.

    Example:
        >>> beta_quantile(0.25, 2, 1)
        0.5
    """
    return float(special.betaincinv(a, b, probability))


@lru_cache(maxsize=1024)
def student_quantile(probability: float, freedom: float) -> float:
    """Return the quantile of Student's t with ``freedom`` degrees of freedom.

    Example:
        >>> student_quantile(0.75, 1), student_quantile(0.25, 1)  # one degree is Cauchy's distribution
        (1.0, -1.0)
    """
    return float(special.stdtrit(freedom, probability))
