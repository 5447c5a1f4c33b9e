"""An order of classes in which those that are confused stand together."""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import linkage

from lightning_debugkit.stats.arrays import Floats, Numbers, floats, integers


def confused_together(confusion: Numbers) -> list[int]:
    """Return all classes so that those confused with each other are neighbours; those confused with none come last.

    Classes are joined into groups, the most confused two first, by the mean confusion between their members; each
    join puts the two ends together that are confused most.

    Args:
        confusion: Counts, row = target, column = prediction.

    >>> confused_together([[9, 0, 1, 0], [0, 9, 0, 3], [2, 0, 9, 0], [0, 2, 0, 9]])
    [0, 2, 1, 3]

    References:
        Sokal and Michener, A Statistical Method for Evaluating Systematic Relationships, 1958: average linkage.
    """
    alike = likeness(confusion)
    confused = np.flatnonzero(alike.any(axis=1))
    alone = np.setdiff1d(np.arange(len(alike)), confused)
    inner = alike[np.ix_(confused, confused)]
    groups = {row: [row] for row in range(len(confused))}
    away = alike.max(initial=0) - inner
    joins = linkage(away[np.triu_indices(len(away), 1)], "average") if len(away) else ()
    for step, (one, other, *_) in enumerate(joins):
        first, second = sorted((groups.pop(int(one)), groups.pop(int(other))), key=min)
        groups[len(confused) + step] = _joined(inner, first, second)
    order = [row for group in groups.values() for row in group]
    return [int(label) for label in [*confused[order], *alone]]


def likeness(confusion: Numbers) -> Floats:
    """Return the share of the first class taken for the second, and the other way round, summed.

    >>> likeness([[8, 2], [1, 9]])
    array([[0. , 0.3],
           [0.3, 0. ]])
    """
    table = floats(integers(confusion))
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    return floats(shares + shares.T)


def _joined(alike: Floats, left: list[int], right: list[int]) -> list[int]:
    """Both groups in a row, turned so that the ends that meet are the most alike."""
    turns = [(one, other) for one in (left, left[::-1]) for other in (right, right[::-1])]
    one, other = max(turns, key=lambda turn: alike[turn[0][-1], turn[1][0]])
    return one + other
