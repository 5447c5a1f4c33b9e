"""Which classes are taken for which, and which pairs would be better off as one class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightning_debugkit.stats.arrays import Floats, Integers, floats
from lightning_debugkit.stats.bootstrap import beyond_chance
from lightning_debugkit.stats.confusion import Confusion
from lightning_debugkit.stats.intervals import wilson

_ROUNDS = 200
_LEAST = 1e-9


@dataclass(frozen=True)
class Pair:
    """A class that is taken for another."""

    target: int  # the class
    predicted: int  # what it is taken for
    count: int  # samples
    support: int  # samples of the class
    share: float  # `count / support`
    low: float  # lower bound of the share, by Wilson's interval
    high: float
    reverse: int  # samples of `predicted` that are taken for `target`
    lift: float  # `count` over what it would be if the errors of a class fell on the others as errors in general do


def most_confused(confusion: Confusion, min_count: int = 1, most: int | None = None) -> list[Pair]:
    """Return the pairs of classes that are confused, most samples first, equal ones by target, then prediction.

    Args:
        min_count: Samples that a pair needs.
        most: Pairs wanted; all of them if ``None``.

    >>> confusion = Confusion.of_matrix([[8, 2, 0], [3, 7, 0], [0, 0, 9]])
    >>> [(pair.target, pair.predicted, pair.count, pair.reverse) for pair in most_confused(confusion)]
    [(1, 0, 3, 2), (0, 1, 2, 3)]

    References:
        The order is that of fastai's ``ClassificationInterpretation.most_confused``. Goodman, The Analysis of
        Cross-classified Data, 1968: quasi-independence, which the lift is over.
    """
    rows, columns, counts = _mistakes(confusion)
    support, expected = confusion.support, _expected(rows, columns, counts, confusion.classes)
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] >= max(min_count, 1)][:most]
    reverse = _looked_up(rows, columns, counts, columns[order], rows[order])
    pairs = []
    for index, back in zip(order.tolist(), reverse.tolist(), strict=True):
        target, predicted, count = int(rows[index]), int(columns[index]), int(counts[index])
        rate = wilson(count, n := int(support[target]))
        lift = count / max(float(expected[index]), _LEAST)
        pairs.append(Pair(target, predicted, count, n, rate.value, rate.low, rate.high, back, lift))
    return pairs


@dataclass(frozen=True)
class Merge:
    """Two classes, and what the figures would be if they were one."""

    first: int  # the class of the lower number
    second: int  # the other
    count: int  # samples of either that are taken for the other
    support: int  # samples of both
    share: float  # `count / support`
    low: float  # lower bound of the share, by Wilson's interval
    high: float
    accuracy: float  # of the model as it is
    accuracy_merged: float  # With the two as one. Rises with every merge, so it proves nothing.
    kappa: float  # agreement beyond chance as it is
    kappa_merged: float  # With the two as one. Falls where chance gains more by the merge than the model.
    # From -1 (only `second` is taken for `first`) to 1 (only `first` for `second`). Near 0 the two are mixed up; near
    # an end one of them swallows the other, which other class weights mend, too.
    asymmetry: float


def merge_candidates(confusion: Confusion, most: int | None = 10) -> list[Merge]:
    """Return pairs of classes whose merge raises Cohen's kappa, the largest rise first.

    Args:
        most: Pairs wanted; all of them if ``None``.

    >>> confusion = Confusion.of_matrix([[6, 4, 0], [4, 6, 0], [0, 0, 10]])
    >>> [merge] = merge_candidates(confusion)
    >>> merge.first, merge.second, merge.accuracy, merge.accuracy_merged, merge.kappa_merged
    (0, 1, 0.7333, 1.0, 1.0)

    References:
        Cohen, A Coefficient of Agreement for Nominal Scales, 1960.
    """
    rows, columns, counts = _mistakes(confusion)
    if confusion.classes < 3 or not len(counts):
        return []  # of two classes nothing would be left to tell apart
    width = confusion.classes
    codes, where = np.unique(np.minimum(rows, columns) * width + np.maximum(rows, columns), return_inverse=True)
    both = np.bincount(where, weights=counts).astype(np.int64)
    forth = np.bincount(where, weights=counts * (rows < columns)).astype(np.int64)
    first, second = codes // width, codes % width
    support, predicted, n = confusion.support, confusion.predicted_count, confusion.total
    accuracy, chance = confusion.correct / n, float(support / n @ (predicted / n))
    merged = accuracy + both / n
    more = (support[first] / n) * (predicted[second] / n) + (support[second] / n) * (predicted[first] / n)
    kappa, *rest = beyond_chance(np.append(accuracy, merged), np.append(chance, chance + more)).tolist()
    kappas = floats(rest)
    order = np.argsort(-kappas, kind="stable")
    order = order[kappas[order] > kappa][:most]
    found = []
    for index in order.tolist():
        one, other, count = int(first[index]), int(second[index]), int(both[index])
        rate = wilson(count, size := int(support[one] + support[other]))
        found.append(
            Merge(
                first=one,
                second=other,
                count=count,
                support=size,
                share=rate.value,
                low=rate.low,
                high=rate.high,
                accuracy=accuracy,
                accuracy_merged=float(merged[index]),
                kappa=kappa,
                kappa_merged=float(kappas[index]),
                asymmetry=float(2 * forth[index] / count - 1),
            )
        )
    return found


def _mistakes(confusion: Confusion) -> tuple[Integers, Integers, Integers]:
    rows, columns, counts = confusion.cells()
    wrong = rows != columns
    return rows[wrong], columns[wrong], counts[wrong]


def _looked_up(rows: Integers, columns: Integers, counts: Integers, row: Integers, column: Integers) -> Integers:
    """The counts of other cells, 0 where there is none; ``rows`` and ``columns`` ascend."""
    if not len(counts):
        return counts
    codes, wanted = (rows << 32) + columns, (row << 32) + column
    place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    found: Integers = np.where(codes[place] == wanted, counts[place], 0)
    return found


def _expected(rows: Integers, columns: Integers, counts: Integers, classes: int) -> Floats:
    """Mistakes that each cell would have under quasi-independence: a product of what its row and column give.

    The diagonal holds no mistakes, so the product of the margins would not add up to them; fitted by turns.
    """
    leaving = floats(np.bincount(rows, weights=counts, minlength=classes))
    arriving = floats(np.bincount(columns, weights=counts, minlength=classes))
    give, take = leaving.copy(), arriving / max(float(arriving.sum()), 1.0)
    for _ in range(_ROUNDS):
        before = give
        give = _over(leaving, take.sum() - take)
        take = _over(arriving, give.sum() - give)
        if np.allclose(give, before, rtol=1e-10, atol=0):
            break
    found: Floats = give[rows] * take[columns]
    return found


def _over(counts: Floats, room: Floats) -> Floats:
    found: Floats = np.divide(counts, room, out=np.zeros_like(counts), where=(room > 0) & (counts > 0))
    return found
