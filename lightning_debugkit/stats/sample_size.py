"""How small a gap the samples can show, and how many samples a gap would take."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import torch

from lightning_debugkit.stats.arrays import Floats, Integers
from lightning_debugkit.stats.intervals import Interval, quantile

_MOST = 10_000_000  # samples beyond which no advice is needed


def smallest_visible_rate_gap(
    rate: float, n_after: int, n_before: int | None = None, level: float = 0.95, power: float = 0.8
) -> float:
    """Return the smallest true worsening from ``rate`` whose interval lies above zero in ``power`` of all cases.

    The chances are summed over all counts that can occur, so it holds for few samples too; nan where even a rate of
    one would not show.

    Args:
        rate: True error before.
        n_after: Samples of the later set.
        n_before: Samples of the earlier set; None if its error is known exactly.
        level: Of Newcombe's interval, or of Wilson's where ``rate`` is known.
        power: Share of cases in which the gap is seen.

    Example:
        >>> smallest_visible_rate_gap(0.0, n_after=10)  # one mistake shows: 1 - (1 - gap) ** 10 = 0.8
        0.1487
    """
    first, needed = _needed(rate, n_after, n_before, quantile(level))
    if _seen(1.0, n_after, first, needed) < power:
        return math.nan
    low, high = rate, 1.0
    while high - low > 1e-7:
        middle = (low + high) / 2
        low, high = (low, middle) if _seen(middle, n_after, first, needed) >= power else (middle, high)
    return high - rate


def samples_for_rate_gap(
    rate: float, gap: float, ratio: float = math.inf, level: float = 0.95, power: float = 0.8
) -> int | None:
    """Return how many samples of the later set show a worsening from ``rate`` by ``gap`` in ``power`` of all cases.

    None where there is no such gap, or ten million samples would not do.

    Args:
        rate: True error before.
        gap: True gap.
        ratio: Samples of the earlier set for each one of the later; infinite if its error is known exactly.
        level: Of the interval.
        power: Share of cases in which the gap is seen.

    Example:
        >>> samples_for_rate_gap(0.0, 0.1487)  # 1 - (1 - 0.1487) ** 10 = 0.8
        10
    """
    z = quantile(level)

    def suffices(n: int) -> bool:
        first, needed = _needed(rate, n, None if math.isinf(ratio) else max(1, round(ratio * n)), z)
        return _seen(rate + gap, n, first, needed) >= power

    if not (gap > 0 and rate + gap <= 1):
        return None
    high = 1
    while not suffices(high):
        high *= 2
        if high > _MOST:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def smallest_visible_gap(before: Interval, after: Interval, level: float = 0.95, power: float = 0.8) -> float:
    """Return the smallest true gap of any metric that shows in ``power`` of all cases, by the widths of two intervals.

    Args:
        before: Error that the gap starts from, at ``level``.
        after: Error that it ends at, at ``level``.
        level: Of the intervals.
        power: Share of cases in which the gap is seen.

    Example:
        >>> from lightning_debugkit.stats.intervals import exact
        >>> smallest_visible_gap(exact(1.0), Interval(2.0, 1.804, 2.196))  # (1.96 + 0.84) times 0.1
        0.2802

    References:
        Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd edition 1988, chapter 2.
    """
    z = quantile(level)
    error = math.hypot(before.high - before.low, after.high - after.low) / (2 * z)
    return (z + NormalDist().inv_cdf(power)) * error


def samples_for_gap(
    gap: float, before: Interval, after: Interval, level: float = 0.95, power: float = 0.8
) -> tuple[int | None, int | None]:
    """Return how many samples of both sets show ``gap``, if both grow alike; a set whose error is known does not.

    Args:
        gap: True gap; None and None where it is not positive.
        before: Error that the gap starts from, at ``level``.
        after: Error that it ends at, at ``level``.
        level: Of the intervals.
        power: Share of cases in which the gap is seen.

    Example:
        >>> from lightning_debugkit.stats.intervals import exact
        >>> samples_for_gap(0.1401, exact(1.0), Interval(2.0, 1.804, 2.196, n=100))  # half of what 100 samples show
        (None, 400)
    """
    visible = smallest_visible_gap(before, after, level, power)
    if not (gap > 0 and math.isfinite(visible)):
        return None, None
    times = (visible / gap) ** 2
    return _grown(before, times), _grown(after, times)


def samples_after_for_gap(
    gap: float, before: Interval, after: Interval, most: int, level: float = 0.95, power: float = 0.8
) -> int | None:
    """Return how many samples of the second set show ``gap``, where the first has ``most``; None if no number does.

    Args:
        gap: True gap.
        before: Error that the gap starts from, at ``level``.
        after: Error that it ends at, at ``level``.
        most: Samples that there are of the first set.
        level: Of the intervals.
        power: Share of cases in which the gap is seen.

    Example:
        >>> after = Interval(2.0, 1.804, 2.196, n=100)
        >>> samples_after_for_gap(0.1401, Interval(1.0, 0.999, 1.001, n=50), after, most=50)
        400
        >>> samples_after_for_gap(0.1401, Interval(1.0, 0.5, 1.5, n=50), after, most=60) is None
        True
    """
    visible = smallest_visible_gap(before, after, level, power)
    if not (gap > 0 and math.isfinite(visible)) or not before.n or not after.n:
        return None
    # The squares of both widths add up, and each falls as its set grows.
    fixed, free = (before.high - before.low) ** 2, (after.high - after.low) ** 2
    left = (fixed + free) * (gap / visible) ** 2 - fixed * before.n / most
    return _grown(after, free / left) if left > 0 else None


def _grown(interval: Interval, times: float) -> int | None:
    # The small allowance keeps a factor that is whole but for rounding from asking for one sample more.
    return math.ceil(interval.n * times - 1e-3) if interval.n and interval.high > interval.low else interval.n


def _needed(rate: float, n_after: int, n_before: int | None, z: float) -> tuple[Floats, Integers]:
    """The chance of each count of mistakes before, and the least mistakes after that show as a gap."""
    if n_before is None:
        chances, before, upper = np.ones(1), np.array([rate]), np.array([rate])
    else:
        counts, chances = _binomial(n_before, rate)
        before, upper = counts / n_before, _score(counts / n_before, n_before, z)[1]
    low = np.full(len(chances), -1)
    high = np.full(len(chances), n_after + 1)
    while (high - low > 1).any():
        middle = (low + high) // 2
        share = np.clip(middle / n_after, 0, 1)
        seen = share - before > np.hypot(share - _score(share, n_after, z)[0], upper - before)
        high, low = np.where(seen, middle, high), np.where(seen, low, middle)
    return chances, high


def _seen(rate: float, n: int, first: Floats, needed: Integers) -> float:
    """How probable at least ``needed`` mistakes are, over all that can occur before."""
    counts, chances = _binomial(n, rate)
    at_least = np.append(np.cumsum(chances[::-1])[::-1], 0.0)
    return float((first * at_least[np.clip(needed - counts[0], 0, len(counts))]).sum())


def _binomial(n: int, rate: float) -> tuple[Integers, Floats]:
    """Counts of mistakes that can occur, and their probabilities; what lies ten standard deviations off is left out."""
    reach = 10 * math.sqrt(n * rate * (1 - rate)) + 20
    counts = np.arange(max(0, math.floor(n * rate - reach)), min(n, math.ceil(n * rate + reach)) + 1)
    if rate in (0.0, 1.0):
        return counts, (counts == n * rate).astype(np.float64)
    k = torch.from_numpy(counts).double()
    total = torch.tensor(float(n), dtype=torch.float64)
    logs = torch.lgamma(total + 1) - torch.lgamma(k + 1) - torch.lgamma(total - k + 1)
    return counts, (logs + k * math.log(rate) + (total - k) * math.log1p(-rate)).exp().numpy()


def _score(share: Floats, n: int, z: float) -> tuple[Floats, Floats]:
    """Wilson's bounds of many shares at once."""
    middle, half = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = np.where(share <= 0, 0.0, (middle - half) / (1 + z * z / n))
    return low, np.where(share >= 1, 1.0, (middle + half) / (1 + z * z / n))
