"""How much the best of many checkpoints looks better than it is, on the set that it was chosen on."""

from __future__ import annotations

from statistics import NormalDist

from scipy import special
from scipy.integrate import quad

_NORMAL = NormalDist()


def expected_maximum(count: int) -> float:
    """Return the expected largest of ``count`` standard normal numbers.

    >>> expected_maximum(1), expected_maximum(2)  # 0, 1 / sqrt(pi)
    (0.0, 0.5642)

    References:
        David and Nagaraja, Order Statistics, 3rd edition 2003, section 3.1; integrated numerically.
    """
    if count < 1:
        raise ValueError(f"expected_maximum needs count >= 1, got {count!r}; it is the number of checkpoints compared.")
    found, _ = quad(lambda x: count * x * _NORMAL.pdf(x) * special.ndtr(x) ** (count - 1), -9, 12, points=[0, 4])
    return max(0.0, float(found))  # rounding may leave one checkpoint a little below


def selection_optimism(standard_error: float, choices: int) -> float:
    """Return how much better the best of ``choices`` equally good checkpoints looks on the set it was chosen on.

    Args:
        standard_error: Of one checkpoint's score on that set.
        choices: Checkpoints or trials that were compared. Real ones make many mistakes in common: their optimism is
            not larger.

    >>> selection_optimism(0.01, 2)  # 0.01 / sqrt(pi)
    0.00564

    References:
        Cawley and Talbot, On Over-fitting in Model Selection, 2010, measure the effect.
    """
    return standard_error * expected_maximum(choices)
