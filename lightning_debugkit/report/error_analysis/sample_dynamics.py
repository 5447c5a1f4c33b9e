"""What training found easy and hard, and which confusions it unlearns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from lightning_debugkit.core.name_lists import percent
from lightning_debugkit.report.curves import Curve
from lightning_debugkit.report.error_analysis.analysis_file import AnalysisFile, Row, finite_number, known
from lightning_debugkit.report.figures import axes_of, blank_figure, legend_above, legend_height
from lightning_debugkit.report.number_formats import as_int, as_list, as_mapping, as_number, number, shortened
from lightning_debugkit.report.palette import PALETTE
from lightning_debugkit.report.parts import Details, Drawing, Heading, Paragraph, Part, table_of

_PAIRS = 5
_HARDEST = 25
_NEVER, _ALWAYS = 0.2, 0.8


def dynamics(analysis: AnalysisFile, stem: str) -> Iterator[Part | Drawing]:
    """Yield the map of the training samples, and those that were hardest to learn."""
    held = as_mapping(analysis.held.get("dynamics"))
    if not held:
        return
    points = _points(held.get("points"))
    regions = [(str(name), as_int(count)) for name, count in as_mapping(held.get("regions")).items()]
    yield Heading("What training found easy and hard")
    if regions:
        whole = max(sum(count for _, count in regions), 1)
        listed = ", ".join(f"{count:,} {name} ({percent(count / whole)})" for name, count in regions)
        yield Paragraph(
            f"Training samples: {listed}.{_counted(held)} Hard ones are often mislabelled; ambiguous ones teach the "
            "most (Swayamdipta et al., 2020)."
        )
    if len(points):
        least, most = float(points[:, 1].min()), float(points[:, 1].max())
        alt = f"{len(points)} samples; mean confidence from {number(least)} to {number(most)}."
        yield Drawing(
            f"{stem}-dynamics", "Map of the training samples", alt, partial(_draw_map, points),
            "Each point is a training sample: how sure of its label the model was, on average over the epochs, and how "
            "much that changed. Top left is easy, right ambiguous, bottom left hard.",
        )  # fmt: skip
    hardest = [row for row in map(as_mapping, as_list(held.get("hardest"))) if row][:_HARDEST]
    if hardest:
        rows = tuple((str(row.get("index", "")), *(known(row, key, number) for key in _COLUMNS)) for row in hardest)
        header = ("training sample", "p(label), mean", "its spread", "times forgotten", "area under the margin")
        yield Details("The hardest training samples", (table_of("Hardest first", header, rows),))


def _counted(held: Row) -> str:
    never, forgotten = known(held, "never_learnt", "{:,.0f}".format), known(held, "forgotten", "{:,.0f}".format)
    return f" Never right: {never}; right once and wrong later: {forgotten}." if never and forgotten else ""


_COLUMNS = ("confidence", "variability", "forgets", "aum")


def _points(listed: Any) -> NDArray[np.float64]:
    rows = [[as_number(value) for value in as_list(row)] for row in as_list(listed)]
    whole = [row for row in rows if len(row) == 3 and all(value is not None and math.isfinite(value) for value in row)]
    return np.array(whole, dtype=np.float64).reshape(-1, 3)


def _draw_map(points: NDArray[np.float64]) -> Canvas:
    correctness = points[:, 2]
    kinds = (
        ("mostly right", correctness >= _ALWAYS, PALETTE.series[0]),
        ("now and then", (correctness > _NEVER) & (correctness < _ALWAYS), PALETTE.series[1]),
        ("hardly ever right", correctness <= _NEVER, PALETTE.error),
    )
    names = [name for name, where, _ in kinds if where.any()]
    top = legend_height(names)
    figure = blank_figure(3.4 + top, top=top)
    axes = axes_of(figure)
    for name, where, color in kinds:
        if where.any():
            axes.add_patch(_dots(points[where, :2], color))
            axes.plot([], [], color=color, linestyle="none", marker="o", markersize=5, label=name)
    axes.set_xlim(-0.01, max(float(points[:, 0].max()), 0.05) * 1.05)
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(lambda value, _: percent(value))
    axes.set_xlabel("spread over the epochs")
    axes.set_ylabel("mean p(label)")
    legend_above(axes, names)
    return figure


def _dots(places: NDArray[np.float64], color: str) -> PathPatch:
    """Return thousands of points as one path, a line without length for each: a marker each would be ten times that."""
    path = Path(np.repeat(places, 2, axis=0), np.tile([Path.MOVETO, Path.LINETO], len(places)))
    path.should_simplify = False
    return PathPatch(path, fill=False, edgecolor=color, linewidth=3.2, capstyle="round", alpha=0.6)


def history_parts(analysis: AnalysisFile, stem: str) -> Iterator[Part | Drawing]:
    """Yield the counts of the most frequent confusions at each validation."""
    moments = analysis.rows("history")
    epochs = [as_int(row.get("epoch")) for row in moments]
    key = "epoch" if len(set(epochs)) == len(epochs) else "step"
    found = _curves(analysis, key)
    if not found:
        return
    known = [value for row in moments if (value := finite_number(row, "accuracy")) is not None]
    rise = f" Accuracy went from {percent(known[0])} to {percent(known[-1])}." if len(known) > 1 else ""
    ends = [curve.values[np.isfinite(curve.values)][[0, -1]].tolist() for curve in found]
    said = "; ".join(f"{curve.label} from {a:g} to {b:g}" for curve, (a, b) in zip(found, ends, strict=True))
    yield Heading("Which confusions are learned away")
    yield Drawing(
        f"{stem}-history", "Times a pair was confused", f"{said}.", partial(_draw_history, found, key),
        f"The first class of a pair is the true one. At a gap, other pairs were more frequent.{rise}",
    )  # fmt: skip


def _curves(analysis: AnalysisFile, key: str) -> list[Curve]:
    """Return the pairs that are known of two validations at least, nan where only others were more frequent."""
    moments = analysis.rows("history")
    steps = np.array([as_int(row.get(key)) for row in moments], dtype=np.int64)
    held: dict[tuple[int, int], NDArray[np.float64]] = {}
    for at, row in enumerate(moments):
        for pair in as_list(row.get("pairs")):
            if len(as_list(pair)) == 3:
                target, predicted, count = (as_int(value, -1) for value in as_list(pair))
                held.setdefault((target, predicted), np.full(len(moments), np.nan))[at] = count
    known = {pair: counts for pair, counts in held.items() if np.isfinite(counts).sum() > 1}
    often = sorted(known, key=lambda pair: -float(np.nanmax(known[pair])))[:_PAIRS]
    return [Curve(f"{analysis.name(t)}, taken for {analysis.name(p)}", steps, known[t, p]) for t, p in often]


def _draw_history(found: Sequence[Curve], key: str) -> Canvas:
    labels = [shortened(curve.label, 44) for curve in found]
    top = legend_height(labels)
    figure = blank_figure(2.9 + top, top=top)
    axes = axes_of(figure)
    for curve, color, label in zip(found, PALETTE.series, labels, strict=False):
        axes.plot(curve.steps, curve.values, color=color, linewidth=1.4, marker="o", markersize=3.5, label=label)
    axes.set_ylim(bottom=0.0)
    axes.margins(x=0.02)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel(key)
    axes.set_ylabel("times")
    legend_above(axes, labels)
    return figure
