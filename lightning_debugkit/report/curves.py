"""Lines over steps: what loss, learning rate and later series share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from lightning_debugkit.core.finding import Severity
from lightning_debugkit.report.figures import (
    axes_of,
    blank_figure,
    legend_above,
    legend_height,
    log_scale,
    mark_findings,
)
from lightning_debugkit.report.number_formats import as_mapping, as_number, number, shortened
from lightning_debugkit.report.palette import PALETTE
from lightning_debugkit.report.summary import Measure, Summary

LOG_RATIO = 50.0
_FEW = 40
_MARKS = 60


@dataclass(frozen=True)
class Curve:
    """One line: its label, steps and values."""

    label: str
    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    color: int | None = None  # place in the palette; its place among the curves of the figure if not given

    @property
    def ends(self) -> str:
        """The first and the last value, in words."""
        return f"from {number(float(self.values[0]))} to {number(float(self.values[-1]))}"

    @property
    def finite_ends(self) -> str:
        """The same of the finite values, empty if there are none."""
        known = np.isfinite(self.values)
        return f", {Curve(self.label, self.steps[known], self.values[known]).ends}" if known.any() else ""

    @property
    def is_constant(self) -> bool:
        return bool((self.values == self.values[0]).all())


def of_first_rank(points: Sequence[Measure]) -> list[Measure]:
    """Return the points of the first rank: ranks share what is drawn."""
    first = min((point.rank for point in points), default=0)
    return [point for point in points if point.rank == first]


def curves(points: Sequence[Measure], world_size: int = 1) -> list[Curve]:
    """Return a curve for each label and rank; values are numbers or mappings of labels to numbers.

    >>> [curve] = curves([Measure(0, 0, {"Adam": 0.1}), Measure(1, 0, {"Adam": "nan"})])
    >>> curve.label, curve.values.tolist()
    ('Adam', [0.1, nan])
    """
    held: dict[str, list[tuple[int, float]]] = {}
    for point in points:
        labelled = as_mapping(point.value) or {"": point.value}
        for name, value in labelled.items():
            known = as_number(value)
            if known is not None:
                rank = f"rank {point.rank}" if world_size > 1 else ""
                held.setdefault(" ".join(filter(None, (name, rank))), []).append((point.step, known))
    return [
        Curve(label, np.array([step for step, _ in pairs]), np.array([value for _, value in pairs]))
        for label, pairs in held.items()
    ]


def is_logarithmic(found: Sequence[Curve]) -> bool:
    """Return whether the values ask for a log scale: all positive, the largest far above the smallest."""
    finite = _finite(found)
    return bool(finite.size and finite.min() > 0 and finite.max() >= LOG_RATIO * finite.min())


def curve_figure(
    found: Sequence[Curve], across: str, up: str, summary: Summary | None = None, height: float = 2.6
) -> Canvas:
    """Return the curves in a figure of their own, the legend above them; with a summary its findings are marked."""
    labels = [curve.label for curve in found] if len(found) > 1 else []
    marks = 0.3 if summary is not None and summary.of(Severity.ERROR, Severity.WARNING) else 0.12
    top = marks + (legend_height(labels) if labels else 0.0)
    figure = blank_figure(height + top - 0.3, top=top)
    axes = axes_of(figure)
    draw_curves(axes, found)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    if labels:
        legend_above(axes, labels, lift=marks - 0.12)
    if summary is not None:
        mark_findings(axes, summary)
    return figure


def draw_curves(axes: Axes, found: Sequence[Curve]) -> None:
    """Draw the curves, a cross or triangle at the edge where a value is not finite."""
    for count, curve in enumerate(found):
        finite = np.isfinite(curve.values)
        axes.plot(
            curve.steps,
            np.where(finite, curve.values, np.nan),
            color=PALETTE.series[(count if curve.color is None else curve.color) % len(PALETTE.series)],
            linewidth=1.4,
            marker="o" if curve.steps.size < _FEW else None,
            markersize=2.5,
            label=shortened(curve.label, 28),
        )
        _mark_nonfinite(axes, curve)
    if is_logarithmic(found):
        finite = _finite(found)
        log_scale(axes, "y", float(finite.min()), float(finite.max()))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.margins(y=0.08)
    # A tail of nan is drawn as marks at the edge: the axis must reach it.
    steps: NDArray[np.int64] = np.concatenate([curve.steps for curve in found])
    pad = 0.02 * max(float(steps.max() - steps.min()), 1.0)
    axes.set_xlim(float(steps.min()) - pad, float(steps.max()) + pad)


def _finite(found: Sequence[Curve]) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.concatenate([curve.values for curve in found])
    return values[np.isfinite(values)]


def _mark_nonfinite(axes: Axes, curve: Curve) -> None:
    kinds = (
        ("nan", np.isnan(curve.values), "X", 0.94),
        ("inf", np.isposinf(curve.values), "^", 0.94),
        ("-inf", np.isneginf(curve.values), "v", 0.06),
    )
    for name, where, marker, height in kinds:
        steps = curve.steps[where]
        if not steps.size:
            continue
        steps = steps[:: -(-steps.size // _MARKS)]
        axes.scatter(
            steps, np.full(steps.size, height), marker=marker, s=42, color=PALETTE.error,
            transform=axes.get_xaxis_transform(), clip_on=False, zorder=4,
        )  # fmt: skip
        axes.annotate(
            name, (float(steps[0]), height), xycoords=("data", "axes fraction"), xytext=(-7, 0),
            textcoords="offset points", color=PALETTE.error, fontsize=9, ha="right", va="center",
        )  # fmt: skip
