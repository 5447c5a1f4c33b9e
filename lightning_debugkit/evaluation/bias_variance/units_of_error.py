"""Numbers of the analysis as people write them: rates in percent and points, other metrics as they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightning_debugkit.stats.intervals import Interval

NAMES = {"train": "training", "train_dev": "held-out training", "val": "validation", "test": "test", "goal": "goal"}


@dataclass(frozen=True)
class Unit:
    """How a metric is called and written."""

    metric: str  # its name, `error` for the share of wrong answers

    @property
    def is_rate(self) -> bool:
        return self.metric == "error"

    def value(self, value: float) -> str:
        """Return a value with its unit.

        >>> Unit("error").value(0.2), Unit("val_mae").value(0.31234)
        ('20 %', '0.3123')
        """
        return self._written(value, "%", 4)

    def gap(self, value: float) -> str:
        """Return the size of a gap: points of a percentage, or the metric's own unit.

        >>> Unit("error").gap(0.19), Unit("val_mae").gap(0.05)
        ('19 points', '0.05')
        """
        return self._written(value, "points", 3)

    def _written(self, value: float, of_rates: str, digits: int) -> str:
        if not math.isfinite(value):
            return str(value)
        return f"{_short(100 * value)} {of_rates}" if self.is_rate else f"{value:.{digits}g}"

    def between(self, interval: Interval, digits: int = 4) -> str:
        """Return the bounds of a value, without the unit.

        >>> Unit("error").between(Interval(0.2, 0.176, 0.226))
        '17.6 to 22.6'
        """
        if math.isnan(interval.low):
            return "uncertainty unknown"
        if self.is_rate:
            return f"{_short(100 * interval.low)} to {_short(100 * interval.high)}"
        return f"{interval.low:.{digits}g} to {interval.high:.{digits}g}"

    def gap_between(self, interval: Interval) -> str:
        """Return the bounds of a gap, without the unit."""
        return self.between(interval, digits=3)

    def of(self, split: str) -> str:
        """Return what the metric of a split is called.

        >>> Unit("error").of("val"), Unit("val_mae").of("train")
        ('validation error', 'training val_mae')
        """
        name = NAMES.get(split, split.replace("_", " "))
        return f"{name} {self.metric}"


def _short(value: float) -> str:
    """Return at most one decimal where that says enough, two significant digits where it does not.

    >>> _short(19.04), _short(0.123), _short(7.0), _short(-1.25)
    ('19', '0.12', '7', '-1.2')
    """
    if value == 0:
        return "0"
    return f"{value:.1f}".removesuffix(".0") if abs(value) >= 1 else f"{value:.2g}"
