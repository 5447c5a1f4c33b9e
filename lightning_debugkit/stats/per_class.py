"""How well each class is found, with the interval that its samples leave open."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightning_debugkit.stats.confusion import Confusion
from lightning_debugkit.stats.intervals import Interval, wilson


@dataclass(frozen=True)
class ClassScore:
    """What became of the samples of one class."""

    label: int
    support: int  # its samples
    predicted_count: int  # samples predicted as it; 0 of a class with support is one that is never predicted
    precision: Interval  # share of those that are of it; nan between 0 and 1 where there are none
    recall: Interval  # share of its samples that were predicted as it; likewise
    f1: Interval  # harmonic mean of the two; likewise


def per_class(confusion: Confusion) -> list[ClassScore]:
    """Return the scores of every class, by its number.

    >>> first, second = per_class(Confusion.of_matrix([[8, 2], [4, 6]]))
    >>> first.recall.value, first.precision.value, first.f1.value  # 8/10, 8/12, 16/22
    (0.8, 0.6667, 0.7273)
    """
    columns = (confusion.hits, confusion.support, confusion.predicted_count)
    return [
        ClassScore(
            label=label,
            support=support,
            predicted_count=predicted,
            precision=wilson(hits, predicted),
            recall=wilson(hits, support),
            f1=_f1(hits, support, predicted),
        )
        for label, (hits, support, predicted) in enumerate(zip(*(c.tolist() for c in columns), strict=True))
    ]


def _f1(hits: int, support: int, predicted: int) -> Interval:
    """F1 = 2 J / (1 + J) of the share J of hits among samples that are of the class or predicted as it.

    It rises with J, and given how many such samples there are, hits are binomial: the bounds of J are its bounds.
    """
    union = support + predicted - hits
    shared = wilson(hits, union)
    low, high = (2 * bound / (1 + bound) for bound in (shared.low, shared.high))
    return Interval(2 * hits / (support + predicted) if union else math.nan, low, high, union)
