"""Intervals by resampling: macro metrics from a confusion matrix, and means of samples that come in groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import TypeAlias

import numpy as np

from lightning_debugkit.stats.arrays import Floats, Integers, Numbers, floats, integers
from lightning_debugkit.stats.intervals import Interval, bare_interval, student_reach

Statistic: TypeAlias = Callable[[Floats, Floats, Floats], Floats]

_CHUNK = 1 << 22  # numbers resampled together: bounds the memory
_NORMAL = NormalDist()


def macro_f1(hits: Floats, actual: Floats, predicted: Floats) -> Floats:
    """Return the mean F1 of the classes that occur, as target or prediction.

    Args:
        hits: (..., classes) samples of the class that were predicted as such.
        actual: (..., classes) samples of the class.
        predicted: (..., classes) samples predicted as the class.

    >>> float(macro_f1(np.array([1.0, 1.0]), np.array([1.0, 2.0]), np.array([2.0, 1.0])))  # 2/3 and 2/3
    0.6667
    """
    return _mean_ratio(2 * hits, actual + predicted)


def balanced_accuracy(hits: Floats, actual: Floats, predicted: Floats) -> Floats:
    """Return the mean share of hits of the classes that have samples; arguments as for ``macro_f1``."""
    return _mean_ratio(hits, actual)


def cohen_kappa(hits: Floats, actual: Floats, predicted: Floats) -> Floats:
    """Return the agreement beyond what the frequencies alone would give; 0 where they leave no room for more.

    Arguments as for ``macro_f1``.

    References:
        Cohen, A Coefficient of Agreement for Nominal Scales, 1960.
    """
    total = actual.sum(axis=-1)
    agree, chance = hits.sum(axis=-1) / total, (actual * predicted).sum(axis=-1) / total**2
    return beyond_chance(agree, chance)


def beyond_chance(agree: Floats, chance: Floats) -> Floats:
    """Return the share of what chance leaves that is agreed on; 0 where it leaves nothing but what rounding does."""
    found: Floats = np.divide(agree - chance, 1 - chance, out=np.zeros_like(chance), where=chance < 1 - 1e-12)
    return found


def _mean_ratio(over: Floats, under: Floats) -> Floats:
    ratios = np.divide(over, under, out=np.zeros_like(over), where=under > 0)
    found: Floats = ratios.sum(axis=-1) / np.maximum((under > 0).sum(axis=-1), 1)
    return found


def bootstrap_confusion(confusion: Numbers, statistic: Statistic, replicates: int = 1_000, seed: int = 0) -> Interval:
    """Return a metric of a confusion matrix with an interval, by drawing as many samples anew from its cells.

    Without bounds where the cells leave nothing to draw, such as where no sample is wrong. Classes of few samples make
    the interval too narrow: what no sample shows, no draw will.

    Args:
        confusion: Counts, row = target, column = prediction.
        statistic: ``macro_f1``, ``balanced_accuracy``, ``cohen_kappa`` or any other with their arguments.

    >>> found = bootstrap_confusion([[80, 20], [10, 90]], balanced_accuracy)
    >>> found.value, found.n, found.low < 0.85 < found.high
    (0.85, 200, True)

    References:
        Efron, Better Bootstrap Confidence Intervals, 1987: bias-corrected and accelerated. Hesterberg, What Teachers
        Should Know About the Bootstrap, 2015: tails widened as Student's t.
    """
    table = integers(confusion)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or (table < 0).any() or not table.any():
        raise ValueError(f"bootstrap_confusion needs a square matrix of counts, got shape {table.shape}; row = target.")
    cells = _Cells(table)
    value = float(statistic(*cells.margins(cells.counts[None]))[0])
    rng = np.random.default_rng(seed)
    drawn = np.concatenate(
        [
            statistic(*cells.margins(rng.multinomial(cells.n, cells.counts / cells.n, size=size)))
            for size in _pieces(replicates, cells.counts.size + len(table))
        ]
    )
    left_out = np.concatenate([statistic(*cells.without(cells.n, part)) for part in cells.parts()])
    return _accelerated(value, drawn, left_out, cells.counts, cells.n)


class _Cells:
    """The cells of a confusion matrix that hold samples; a matrix of many classes is nearly empty."""

    def __init__(self, table: Integers) -> None:
        self.classes = len(table)
        self.rows, self.columns = np.nonzero(table)
        self.counts = table[self.rows, self.columns]
        self.n = int(self.counts.sum())
        self.diagonal = self.rows == self.columns

    def margins(self, counts: Integers) -> tuple[Floats, Floats, Floats]:
        """(draws, cells) -> hits, actual, predicted of (draws, classes) each."""
        found = []
        for where, part in (
            (self.rows[self.diagonal], counts[:, self.diagonal]),
            (self.rows, counts),
            (self.columns, counts),
        ):
            order = np.argsort(where, kind="stable")
            classes, starts = np.unique(where[order], return_index=True)
            sums = np.zeros((len(counts), self.classes))
            if len(classes):
                sums[:, classes] = np.add.reduceat(part[:, order], starts, axis=1)
            found.append(sums)
        return found[0], found[1], found[2]

    def parts(self) -> Iterator[slice]:
        """Cells whose margins fit into memory together."""
        start = 0
        for size in _pieces(self.counts.size, self.classes):
            yield slice(start, start + size)
            start += size

    def without(self, n: int, part: slice) -> tuple[Floats, Floats, Floats]:
        """The margins without one sample of each cell of ``part``, (cells, classes) each."""
        rows, columns = self.rows[part], self.columns[part]
        index = np.arange(len(rows))
        hits, actual, predicted = (np.repeat(margin, len(rows), axis=0) for margin in self.margins(self.counts[None]))
        hits[index, rows] -= rows == columns
        actual[index, rows] -= 1
        predicted[index, columns] -= 1
        return hits, actual, predicted


def bootstrap_groups(totals: Numbers, sizes: Numbers, replicates: int = 1_000) -> Interval:
    """Return the mean over all samples, with an interval that takes the groups, not the samples, as independent.

    Without bounds where the groups do not differ or are fewer than two; with fewer than about 20 it is rough.

    Args:
        totals: (groups,) sum of the values, such as the wrong samples.
        sizes: (groups,) samples.
        replicates: Draws of as many groups.

    >>> found = bootstrap_groups([0, 5, 0, 5], [5, 5, 5, 5])  # four patients, each all right or all wrong
    >>> found.value, found.n, found.high - found.low > 0.8
    (0.5, 20, True)

    References:
        Davison and Hinkley, Bootstrap Methods and Their Application, 1997, section 3.8; intervals as in
        ``bootstrap_confusion``.
    """
    sums, counts = floats(totals), floats(sizes)
    if sums.shape != counts.shape or sums.ndim != 1 or (counts <= 0).any():
        raise ValueError("bootstrap_groups needs a total and a positive size of each group; leave empty groups out.")
    groups, n = len(sums), round(float(counts.sum()))
    if groups < 2:
        return bare_interval(float(sums.sum() / counts.sum()) if groups else math.nan, n)
    rng = np.random.default_rng(0)
    means = []
    for size in _pieces(replicates, groups):
        drawn = rng.multinomial(groups, np.full(groups, 1 / groups), size=size)
        means.append((drawn @ sums) / (drawn @ counts))
    left_out = (sums.sum() - sums) / (counts.sum() - counts)
    value = float(sums.sum() / counts.sum())
    return _accelerated(value, np.concatenate(means), left_out, np.ones(groups), n)


def _pieces(count: int, width: int) -> Iterator[int]:
    """How many of ``count`` rows of ``width`` numbers to take at once."""
    size = max(1, _CHUNK // width)
    for start in range(0, count, size):
        yield min(size, count - start)


def _accelerated(value: float, drawn: Floats, left_out: Floats, weights: Floats | Integers, n: int) -> Interval:
    """The 95 % interval from the draws and the values without one unit each; ``weights``: units of such a value."""
    units = float(weights.sum())
    apart = (weights * left_out).sum() / units - left_out
    spread = float((weights * apart**2).sum())
    # Rounding alone is no spread.
    if not math.isfinite(value) or units < 2 or spread <= units * (1e-12 * max(abs(value), 1e-3)) ** 2:
        return bare_interval(value, n)
    acceleration = float((weights * apart**3).sum()) / (6 * spread**1.5)
    below = float((drawn < value).mean() + (drawn == value).mean() / 2)
    edge = 0.5 / len(drawn)
    bias = _NORMAL.inv_cdf(min(max(below, edge), 1 - edge))
    reach = math.sqrt(units / (units - 1)) * student_reach(0.95, units - 1)

    def bound(z: float) -> float:
        moved = bias + z
        return float(np.quantile(drawn, _NORMAL.cdf(bias + moved / max(1 - acceleration * moved, 1e-9))))

    low, high = bound(-reach), bound(reach)
    return Interval(value, min(low, value), max(high, value), n)
