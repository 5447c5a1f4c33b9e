"""A run's own recent history, robust to the outliers it is asked about."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from statistics import median

# The median absolute deviation of a normal distribution times this is its standard deviation.
_MAD_TO_SIGMA = 1.4826


class LogHistory:
    """The last positive values of a series, compared on a logarithmic scale.

    Args:
        window: Values remembered.
        values: Values to start with, oldest first.

    >>> history = LogHistory(window=50, values=[1.0, 1.1, 0.9, 1.05, 0.95] * 6)
    >>> round(history.sigmas(1.0), 1), history.sigmas(100.0) > 20
    (0.0, True)

    References:
        Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993: the modified z-score.
    """

    def __init__(self, window: int = 100, values: Iterable[float] = ()) -> None:
        self.values: deque[float] = deque(values, maxlen=window)
        self._least = min(self.values, default=math.inf)  # ever: no more than any that is remembered

    def __len__(self) -> int:
        return len(self.values)

    def add(self, value: float) -> None:
        """Remember ``value`` if it is positive and finite."""
        if 0 < value < math.inf:
            self.values.append(value)
            self._least = min(self._least, value)

    def is_above(self, factor: float, value: float) -> bool:
        """Tell whether ``value`` is more than ``factor`` times the median, which is found only if it may be."""
        return value > factor * self._least and value > factor * self.median

    @property
    def median(self) -> float:
        return median(self.values) if self.values else math.nan

    def sigmas(self, value: float) -> float:
        """Return how many robust standard deviations ``log(value)`` lies above the median.

        A history that hardly varies is taken to vary by a tenth, so that a small change is not a large deviation.
        """
        if not self.values or value <= 0:
            return 0.0
        logs = [math.log(item) for item in self.values]
        middle = median(logs)
        spread = _MAD_TO_SIGMA * median(abs(item - middle) for item in logs)
        return (math.log(value) - middle) / max(spread, 0.1)
