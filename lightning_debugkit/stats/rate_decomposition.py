"""Whether one set is harder than another because its classes are other, or because they are harder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from lightning_debugkit.stats.arrays import Floats, Numbers, floats
from lightning_debugkit.stats.intervals import Interval

Counts: TypeAlias = tuple[Numbers, Numbers]


@dataclass(frozen=True)
class LabelShift:
    """A gap between two error rates, split exactly."""

    labels: float  # what the other shares of the classes add
    within: float  # what the other error rates within the classes add


def rate_decomposition(before: Counts, after: Counts) -> LabelShift:
    """Split the error of ``after`` less that of ``before`` into label shift and change within classes.

    A class that one of the sets lacks is taken to be as hard there as in the other: all it adds is label shift.

    Args:
        before: Samples and wrong samples of each class, (classes,) each.
        after: The same of the other set.

    >>> shift = rate_decomposition(([50, 50], [5, 10]), ([20, 80], [2, 16]))  # same rates, more of the harder class
    >>> shift.labels, shift.within
    (0.03, 0.0)

    References:
        Kitagawa, Components of a Difference between Two Rates, 1955, the two-component form.
    """
    (n, wrong), (later_n, later_wrong) = _checked(before), _checked(after)
    labels, within = _split(n, wrong, later_n, later_wrong)
    return LabelShift(float(labels.sum()), float(within.sum()))


def bootstrap_rate_decomposition(before: Counts, after: Counts, replicates: int = 1_000) -> tuple[Interval, Interval]:
    """Return label shift and change within classes with 95 % intervals, by drawing the samples of both sets anew.

    Args:
        before: Samples and wrong samples of each class, (classes,) each.
        after: The same of the other set.

    >>> labels, within = bootstrap_rate_decomposition(([500, 500], [50, 100]), ([200, 800], [20, 160]))
    >>> labels.side, within.side
    ('above', 'across')

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13: the percentile interval.
    """
    whole = rate_decomposition(before, after)
    rng = np.random.default_rng(0)
    first, second = (_drawn(*_checked(counts), replicates, rng) for counts in (before, after))
    parts = _split(*first, *second)
    labels, within = (np.quantile(part.sum(axis=-1), [0.025, 0.975]) for part in parts)
    return (
        Interval(whole.labels, float(labels[0]), float(labels[1])),
        Interval(whole.within, float(within[0]), float(within[1])),
    )


def _drawn(n: Floats, wrong: Floats, replicates: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """(replicates, classes) samples and wrong samples of as many samples drawn anew."""
    cells = np.concatenate([n - wrong, wrong])
    drawn = floats(rng.multinomial(round(float(cells.sum())), cells / cells.sum(), size=replicates))
    right, mistaken = drawn[:, : len(n)], drawn[:, len(n) :]
    return right + mistaken, mistaken


def _checked(counts: Counts) -> tuple[Floats, Floats]:
    supports, wrong = floats(counts[0]), floats(counts[1])
    if supports.shape != wrong.shape or not supports.sum() or (wrong < 0).any() or (wrong > supports).any():
        raise ValueError(
            "kitagawa needs samples and wrong samples of each class, some samples, and 0 <= wrong <= samples."
        )
    return supports, wrong


def _split(n: Floats, wrong: Floats, later_n: Floats, later_wrong: Floats) -> tuple[Floats, Floats]:
    """(..., classes) each; the parts by class."""
    rate = np.divide(wrong, n, out=np.full(wrong.shape, np.nan), where=n > 0)
    later_rate = np.divide(later_wrong, later_n, out=np.full(later_wrong.shape, np.nan), where=later_n > 0)
    rate, later_rate = (
        np.nan_to_num(np.where(n > 0, rate, later_rate)),
        np.nan_to_num(np.where(later_n > 0, later_rate, rate)),
    )
    share, later_share = n / n.sum(axis=-1, keepdims=True), later_n / later_n.sum(axis=-1, keepdims=True)
    labels = (later_share - share) * (rate + later_rate) / 2
    within = (later_rate - rate) * (share + later_share) / 2
    return labels, within
