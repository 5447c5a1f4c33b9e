"""An order of classes in which those that are confused stand together."""

from __future__ import annotations

import numpy as np

from lightning_debugkit.stats.arrays import Floats, Numbers, floats, integers


def confused_together(confusion: Numbers) -> list[int]:
    """Return all classes so that those confused with each other are neighbours; those confused with none come last.

    Classes are joined into groups, the most confused two first, by the mean confusion between their members; each
    join puts the two ends together that are confused most.

    Args:
        confusion: Counts, row = target, column = prediction.

    Example:
        >>> confused_together([[9, 0, 1, 0], [0, 9, 0, 3], [2, 0, 9, 0], [0, 2, 0, 9]])
        [0, 2, 1, 3]

    References:
        Sokal and Michener, A Statistical Method for Evaluating Systematic Relationships, 1958: average linkage.
        Benzecri, Construction d'une classification ascendante hierarchique, 1982: by chains of nearest neighbours.
    """
    alike = likeness(confusion)
    confused = np.flatnonzero(alike.any(axis=1))
    alone = np.setdiff1d(np.arange(len(alike)), confused)
    inner = alike[np.ix_(confused, confused)]
    groups: dict[int, list[int]] = {row: [row] for row in range(len(confused))}
    for first, second, _ in sorted(joins(inner), key=lambda join: -join[2]):
        groups[first] = _joined(inner, groups[first], groups.pop(second))
    order = [row for first in sorted(groups) for row in groups[first]]
    return [int(label) for label in [*confused[order], *alone]]


def likeness(confusion: Numbers) -> Floats:
    """Return the share of the first class taken for the second, and the other way round, summed.

    Example:
        >>> likeness([[8, 2], [1, 9]])
        array([[0. , 0.3],
               [0.3, 0. ]])
    """
    table = floats(integers(confusion))
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    return floats(shares + shares.T)


def joins(alike: Floats) -> list[tuple[int, int, float]]:
    """Return, for each join of average linkage, a member of either group, the one kept first, and their likeness."""
    near, sizes = alike.copy(), np.ones(len(alike))
    np.fill_diagonal(near, -np.inf)
    is_open = np.ones(len(alike), dtype=np.bool_)
    found: list[tuple[int, int, float]] = []
    chain: list[int] = []
    while len(found) < len(alike) - 1:
        if not chain:
            chain = [int(np.flatnonzero(is_open)[0])]
        end = chain[-1]
        best = int(near[end].argmax())
        # The one before wins among equals: else the chain could go round for ever.
        if len(chain) > 1 and near[end, chain[-2]] >= near[end, best]:
            best = chain[-2]
            del chain[-2:]
            kept, gone = min(end, best), max(end, best)
            found.append((kept, gone, float(near[kept, gone])))
            row = (sizes[kept] * near[kept] + sizes[gone] * near[gone]) / (sizes[kept] + sizes[gone])
            near[kept], near[:, kept] = row, row
            near[kept, kept] = -np.inf
            near[gone], near[:, gone] = -np.inf, -np.inf
            sizes[kept] += sizes[gone]
            is_open[gone] = False
        else:
            chain.append(best)
    return found


def _joined(alike: Floats, left: list[int], right: list[int]) -> list[int]:
    """Both groups in a row, turned so that the ends that meet are the most alike."""
    turns = [(one, other) for one in (left, left[::-1]) for other in (right, right[::-1])]
    one, other = max(turns, key=lambda turn: alike[turn[0][-1], turn[1][0]])
    return one + other
