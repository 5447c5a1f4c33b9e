"""How much the best of many checkpoints looks better than it is, on the set that it was chosen on."""

from __future__ import annotations

import math

import numpy as np

from lightning_debugkit.stats.arrays import Numbers, flags

_GRID = np.linspace(-9.0, 12.0, 8_401)


def expected_maximum(count: int) -> float:
    """Return the expected largest of ``count`` standard normal numbers.

    Example:
        >>> expected_maximum(1), expected_maximum(2)  # 0, 1 / sqrt(pi)
        (0.0, 0.5642)

    References:
        David and Nagaraja, Order Statistics, 3rd edition 2003, section 3.1; integrated numerically.
    """
    if count < 1:
        raise ValueError(f"expected_maximum needs count >= 1, got {count!r}; it is the number of checkpoints compared.")
    below = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in _GRID]) ** count
    # E max = integral of P(max > x) above zero less that of P(max < x) below it.
    positive = _GRID >= 0
    step = _GRID[1] - _GRID[0]
    weights = np.full(_GRID.size, step)
    weights[[0, -1]] /= 2
    integrand = np.where(positive, 1 - below, -below)
    at_zero = np.flatnonzero(positive)[0]
    integrand[at_zero] = 0.5 - below[at_zero]  # the jump at zero falls on the grid
    return max(0.0, float((integrand * weights).sum()))  # rounding may leave one checkpoint a little below


def rate_error(rate: float, n: int) -> float:
    """Return the standard error of a rate of ``n`` samples.

    Example:
        >>> rate_error(0.1, 900)
        0.01
    """
    return math.sqrt(rate * (1 - rate) / n)


def selection_optimism(standard_error: float, choices: int, correlation: float = 0.0) -> float:
    """Return how much better the best of ``choices`` equally good checkpoints looks on the set it was chosen on.

    Args:
        standard_error: Of one checkpoint's score on that set.
        choices: Checkpoints or trials that were compared.
        correlation: Of their scores, see ``error_correlation``; with 0 the optimism of real checkpoints, which make
            many mistakes in common, is not larger.

    Example:
        >>> selection_optimism(0.01, 2)  # 0.01 / sqrt(pi)
        0.00564

    References:
        Expected largest of equally correlated normals, Owen and Steck, 1962. Cawley and Talbot, On Over-fitting in
        Model Selection, 2010, measure the effect.
    """
    return standard_error * math.sqrt(max(1 - correlation, 0.0)) * expected_maximum(choices)


def error_correlation(wrong: Numbers) -> float:
    """Return the mean correlation of the mistakes of any two checkpoints, each weighted by how much it varies.

    Shapes:
        wrong: (checkpoints, samples) truth values; returns 0 for one checkpoint or no mistakes.

    Example:
        >>> error_correlation([[1, 1, 0, 0], [1, 1, 0, 0]]), error_correlation([[1, 1, 0, 0], [1, 0, 1, 0]])
        (1.0, 0.0)
    """
    table = flags(wrong).astype(np.float64)
    count = len(table)
    centred = table - table.mean(axis=1, keepdims=True)
    own = float((centred**2).sum())
    if count < 2 or own == 0:
        return 0.0
    # The sum over all pairs is the square of the sum: no (checkpoints, checkpoints) table is needed.
    shared = float((centred.sum(axis=0) ** 2).sum()) - own
    return shared / (count - 1) / own
