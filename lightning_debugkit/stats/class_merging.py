"""Whether two classes are worth being one: the rise of kappa, and how far the two are told apart, with intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lightning_debugkit.stats.arrays import Floats, Integers, floats
from lightning_debugkit.stats.confusion import Confusion
from lightning_debugkit.stats.intervals import Interval, bare_interval, quantile

_CERTAIN = 1 - 1e-12


@dataclass(frozen=True)
class Worth:
    """What speaks for making two classes one."""

    kappa: Interval  # agreement beyond chance as it is
    rise: Interval  # what kappa gains where the two are one
    # Kappa of the answers that are of one of the two and say one of the two: 1 where the model tells them apart, 0
    # where it might as well guess
    apart: Interval


def worth_of_merging(confusion: Confusion, first: int, second: int, weight: float = 1.0, level: float = 0.95) -> Worth:
    """Return the worth of a merge, with intervals by the delta method.

    Args:
        weight: Independent answers behind each count: below 1 where answers go together.

    >>> worth = worth_of_merging(Confusion.of_matrix([[30, 30, 0], [30, 30, 0], [0, 0, 60]]), 0, 1)
    >>> worth.rise.value, worth.rise.side, worth.apart.value
    (0.5, 'above', 0.0)

    References:
        Fleiss, Cohen, Everitt, Large Sample Standard Errors of Kappa and Weighted Kappa, 1969.
    """
    rows, columns, counts = confusion.cells()
    merged_rows, merged_columns = (np.where(side == second, first, side) for side in (rows, columns))
    kappa, slope = _kappa(rows, columns, counts)
    after, slope_after = _kappa(merged_rows, merged_columns, counts)
    inside = np.isin(rows, (first, second)) & np.isin(columns, (first, second))
    apart, slope_apart = _kappa(rows[inside], columns[inside], counts[inside])
    return Worth(
        _interval(kappa, slope, counts, weight, level),
        _interval(after - kappa, slope_after - slope, counts, weight, level),
        _interval(apart, slope_apart, counts[inside], weight, level),
    )


def _kappa(rows: Integers, columns: Integers, counts: Integers) -> tuple[float, Floats]:
    """Return kappa, and how it changes with the share of each cell."""
    share = floats(counts) / max(int(counts.sum()), 1)
    classes = int(max(rows.max(initial=0), columns.max(initial=0))) + 1
    of_target, of_answer = (np.bincount(side, weights=share, minlength=classes) for side in (rows, columns))
    is_right = rows == columns
    agree, chance = float(share[is_right].sum()), float(of_target @ of_answer)
    if not len(counts) or chance > _CERTAIN:
        return math.nan, np.full(len(counts), np.nan)
    slope: Floats = (is_right * (1 - chance) - (1 - agree) * (of_answer[rows] + of_target[columns])) / (1 - chance) ** 2
    return (agree - chance) / (1 - chance), slope


def _interval(value: float, slope: Floats, counts: Integers, weight: float, level: float) -> Interval:
    n = int(counts.sum())
    if math.isnan(value):
        return bare_interval(math.nan, n)
    share = floats(counts) / n
    spread = float(share @ slope**2 - (share @ slope) ** 2)
    return Interval.around(value, quantile(level) * math.sqrt(max(spread, 0.0) / (n * weight)), n)
