"""How small a gap the samples can show, and how many samples a gap would take."""

from __future__ import annotations

import math
from statistics import NormalDist

from lightning_debugkit.stats.intervals import Interval, quantile


def smallest_visible_gap(before: Interval, after: Interval, level: float = 0.95, power: float = 0.8) -> float:
    """Return the smallest true gap of any metric that shows in ``power`` of all cases, by the widths of two intervals.

    Args:
        before: Error that the gap starts from, at ``level``.
        after: Error that it ends at, at ``level``.
        power: Share of cases in which the gap is seen.

    >>> from lightning_debugkit.stats.intervals import exact
    >>> smallest_visible_gap(exact(1.0), Interval(2.0, 1.804, 2.196))  # (1.96 + 0.84) times 0.1
    0.2802

    References:
        Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd edition 1988, chapter 2.
    """
    z = quantile(level)
    error = math.hypot(before.high - before.low, after.high - after.low) / (2 * z)
    return (z + NormalDist().inv_cdf(power)) * error


def samples_for_gap(gap: float, before: Interval, after: Interval) -> tuple[int | None, int | None]:
    """Return how many samples of both sets show ``gap``, if both grow alike; a set whose error is known does not.

    Args:
        gap: True gap; None and None where it is not positive.
        before: Error that the gap starts from, at 95 %.
        after: Error that it ends at, likewise.

    >>> from lightning_debugkit.stats.intervals import exact
    >>> samples_for_gap(0.1401, exact(1.0), Interval(2.0, 1.804, 2.196, n=100))  # half of what 100 samples show
    (None, 400)
    """
    visible = smallest_visible_gap(before, after)
    if not (gap > 0 and math.isfinite(visible)):
        return None, None
    times = (visible / gap) ** 2
    return _grown(before, times), _grown(after, times)


def samples_after_for_gap(gap: float, before: Interval, after: Interval, most: int) -> int | None:
    """Return how many samples of the second set show ``gap``, where the first has ``most``; None if no number does.

    Args:
        gap: True gap.
        before: Error that the gap starts from, at 95 %.
        after: Error that it ends at, likewise.
        most: Samples that there are of the first set.

    >>> after = Interval(2.0, 1.804, 2.196, n=100)
    >>> samples_after_for_gap(0.1401, Interval(1.0, 0.999, 1.001, n=50), after, most=50)
    400
    >>> samples_after_for_gap(0.1401, Interval(1.0, 0.5, 1.5, n=50), after, most=60) is None
    True
    """
    visible = smallest_visible_gap(before, after)
    if not (gap > 0 and math.isfinite(visible)) or not before.n or not after.n:
        return None
    # The squares of both widths add up, and each falls as its set grows.
    fixed, free = (before.high - before.low) ** 2, (after.high - after.low) ** 2
    left = (fixed + free) * (gap / visible) ** 2 - fixed * before.n / most
    return _grown(after, free / left) if left > 0 else None


def _grown(interval: Interval, times: float) -> int | None:
    # The small allowance keeps a factor that is whole but for rounding from asking for one sample more.
    return math.ceil(interval.n * times - 1e-3) if interval.n and interval.high > interval.low else interval.n
