"""How heavy the tail of a series of positive numbers is: whether a few of them outweigh all the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

_TAIL = 0.1  # share of the values


def tail_index(values: Sequence[float]) -> tuple[float, float]:
    """Return the tail index of ``values`` and its upper 95 % limit; below 2 the variance has no limit.

    The Hill estimator on the largest tenth of the values, k of them:

    .. math:: 1 / \\alpha = \\frac{1}{k} \\sum_{i=1}^{k} \\log x_{(i)} - \\log x_{(k+1)}

    Its relative standard error is :math:`1 / \\sqrt k`. Without a spread in the tail both are infinite.

    >>> index, upper = tail_index([(i / 1000) ** (-1 / 1.5) for i in range(1, 1001)])  # Pareto of index 1.5
    >>> round(index, 1), upper < 2
    (1.5, True)

    References:
        Hill, A Simple General Approach to Inference About the Tail of a Distribution, 1975.
    """
    ordered = sorted(values, reverse=True)
    count = min(max(1, math.ceil(_TAIL * len(ordered))), len(ordered) - 1)
    if count < 1 or ordered[count] <= 0:
        return math.inf, math.inf
    mean = sum(math.log(value) for value in ordered[:count]) / count - math.log(ordered[count])
    if mean <= 0:
        return math.inf, math.inf
    return 1 / mean, (1 + 1.96 / math.sqrt(count)) / mean


def above_usual(values: Sequence[float], window: int = 50) -> list[float]:
    """Return each value over the usual one at its time, in order, from the first that has a past.

    The usual one is the larger of two medians: that of the ``window`` values before it and that of the first ones. So
    a series that falls to a hundredth of where it began has no tail for its values of the beginning, nor for late
    values that rise to where it began.

    >>> above_usual([4.0] * 50 + [2.0, 8.0])
    [0.5, 2.0]
    """
    if len(values) <= window:
        return []
    start = median(values[:window])
    found = []
    for index in range(window, len(values)):
        usual = max(start, median(values[index - window : index]))
        found.append(values[index] / usual if usual > 0 else 0.0)
    return found
