"""Norms of many layers over many steps as one matrix that fits a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_debugkit.report.number_formats import as_mapping, as_number
from lightning_debugkit.report.summary import Measure

ROWS = 60
COLUMNS = 240


@dataclass(frozen=True)
class Heatmap:
    """Norms by layer and step.

    Shapes:
        norms: (layers, steps), nan where not finite or not measured.
        is_nonfinite: (layers, steps), where a norm was measured and is not finite.
    """

    layers: tuple[str, ...]
    steps: NDArray[np.int64]
    norms: NDArray[np.float64]
    is_nonfinite: NDArray[np.bool_]

    def rows(self, kept: Sequence[int]) -> Heatmap:
        """Return the heat map of these rows."""
        index = np.asarray(kept, dtype=np.int64)
        return Heatmap(tuple(self.layers[row] for row in kept), self.steps, self.norms[index], self.is_nonfinite[index])


def of_one_rank(points: Sequence[Measure]) -> list[Measure]:
    """Return the points, in order, of the rank with most to tell: replicas share weights and gradients."""
    ranks = [point.rank for point in points]
    best = max(sorted(set(ranks)), key=ranks.count, default=0)
    return sorted((point for point in points if point.rank == best), key=lambda point: point.step)


def heatmap(points: Sequence[Measure]) -> Heatmap | None:
    """Return the norms of all layers, in the order they were first seen; ``None`` if there are none.

    >>> found = heatmap([Measure(0, 0, {"a": 1.0, "b": "inf"}), Measure(5, 0, {"a": 0.5})])
    >>> found.layers, found.norms.tolist(), found.is_nonfinite[1].tolist()
    (('a', 'b'), [[1.0, 0.5], [nan, nan]], [True, False])
    """
    layers = list(dict.fromkeys(str(layer) for point in points for layer in as_mapping(point.value)))
    if not layers:
        return None
    row_of = {layer: row for row, layer in enumerate(layers)}
    norms = np.full((len(layers), len(points)), np.nan)
    is_nonfinite = np.zeros(norms.shape, dtype=np.bool_)
    for column, point in enumerate(points):
        held = as_mapping(point.value)
        whole = _as_column(held) if len(held) == len(layers) and list(held) == layers else None
        if whole is not None:
            is_nonfinite[:, column] = ~np.isfinite(whole)
            norms[:, column] = np.where(is_nonfinite[:, column], np.nan, whole)
            continue
        for layer, value in held.items():
            known = as_number(value)
            if known is not None and np.isfinite(known):
                norms[row_of[str(layer)], column] = known
            elif known is not None:
                is_nonfinite[row_of[str(layer)], column] = True
    return Heatmap(tuple(layers), np.array([point.step for point in points]), norms, is_nonfinite)


def _as_column(values: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """Return the values at once, as of ten thousand layers one by one takes seconds; ``None`` if one is no number."""
    try:
        return np.array(list(values.values()), dtype=np.float64) if None not in values.values() else None
    except (TypeError, ValueError):
        return None


def narrowed(found: Heatmap) -> Heatmap:
    """Return ``found`` with at most `COLUMNS` columns: each the largest norm of its steps, non-finite if any is."""
    columns = found.steps.size
    if columns <= COLUMNS:
        return found
    starts = np.linspace(0, columns, COLUMNS, endpoint=False).astype(np.int64)
    # The largest of what was measured: fmax passes nan over.
    norms = np.fmax.reduceat(found.norms, starts, axis=1)
    is_nonfinite = np.logical_or.reduceat(found.is_nonfinite, starts, axis=1)
    return Heatmap(found.layers, found.steps[starts], norms, is_nonfinite)


def chosen_rows(found: Heatmap, faulty: Sequence[int]) -> list[int]:
    """Return at most `ROWS` rows in order: faulty, non-finite, extremes, ends, then evenly spread ones."""
    count = len(found.layers)
    if count <= ROWS:
        return list(range(count))
    typical = np.fmax.reduce(found.norms, axis=1)
    by_size = np.argsort(np.nan_to_num(typical, nan=0.0), kind="stable").tolist()
    broken = np.flatnonzero(found.is_nonfinite.any(axis=1)).tolist()
    wanted = [*faulty, *broken[: ROWS // 3], *by_size[-3:], *by_size[:3], 0, count - 1]
    kept = list(dict.fromkeys(wanted))[:ROWS]
    others = sorted(set(range(count)) - set(kept))
    spread = np.linspace(0, len(others) - 1, ROWS - len(kept)).astype(np.int64)
    return sorted([*kept, *(others[place] for place in spread)])


def edges(steps: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the borders of columns that start at ``steps``; the last is as wide as most.

    >>> edges(np.array([0, 10, 20])).tolist()
    [0.0, 10.0, 20.0, 30.0]
    """
    width = float(np.median(np.diff(steps))) if steps.size > 1 else 1.0
    return np.append(steps.astype(np.float64), float(steps[-1]) + max(width, 1.0))


def evenly(cells: NDArray[np.float64], borders: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return columns of equal width from those between ``borders``, so that a picture can hold them.

    >>> evenly(np.array([[1.0, 2.0]]), np.array([0.0, 1.0, 3.0])).tolist()
    [[1.0, 2.0, 2.0]]
    """
    widths = np.diff(borders)
    count = min(round((borders[-1] - borders[0]) / widths.min()), 4 * COLUMNS)
    middles = borders[0] + (np.arange(count) + 0.5) * (borders[-1] - borders[0]) / count
    return cells[:, np.searchsorted(borders, middles, side="right") - 1]
