"""What training found easy and hard, and which confusions it unlearns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from lightning_debugkit.report.curves import Curve
from lightning_debugkit.report.drawing import Look, axes_of, blank
from lightning_debugkit.report.errors.analysis import Analysis, Row, finite, known
from lightning_debugkit.report.parts import Cell, Details, Drawing, Heading, Paragraph, Part, Table
from lightning_debugkit.report.wording import as_int, as_list, as_mapping, as_number, number, percent, shortened

_PAIRS = 5
_HARDEST = 25
_NEVER, _ALWAYS = 0.2, 0.8


def dynamics(analysis: Analysis, stem: str) -> Iterator[Part | Drawing]:
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
        rows = tuple(
            (Cell(str(row.get("index", ""))), *(Cell(known(row, key, number)) for key in _COLUMNS)) for row in hardest
        )
        header = ("training sample", "p(label), mean", "its spread", "times forgotten", "area under the margin")
        yield Details("The hardest training samples", (Table("Hardest first", header, rows),))


def _counted(held: Row) -> str:
    never, forgotten = known(held, "never_learnt", "{:,.0f}".format), known(held, "forgotten", "{:,.0f}".format)
    return f" Never right: {never}; right once and wrong later: {forgotten}." if never and forgotten else ""


_COLUMNS = ("confidence", "variability", "forgets", "aum")


def _points(listed: Any) -> NDArray[np.float64]:
    rows = [[as_number(value) for value in as_list(row)] for row in as_list(listed)]
    whole = [row for row in rows if len(row) == 3 and all(value is not None and math.isfinite(value) for value in row)]
    return np.array(whole, dtype=np.float64).reshape(-1, 3)


def _draw_map(points: NDArray[np.float64], look: Look) -> Canvas:
    figure = blank(look, 3.6)
    axes = axes_of(figure, look)
    correctness = points[:, 2]
    kinds = (
        ("mostly right", correctness >= _ALWAYS, "o", look.lines[0]),
        ("now and then", (correctness > _NEVER) & (correctness < _ALWAYS), "D", look.lines[1]),
        ("hardly ever right", correctness <= _NEVER, "X", look.error),
    )
    for name, where, marker, color in kinds:
        if where.any():
            spread, confidence = points[where, 0], points[where, 1]
            axes.scatter(spread, confidence, s=11, marker=marker, color=color, alpha=0.6, linewidths=0, label=name)
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(lambda value, _: percent(value))
    axes.set_xlabel("spread over the epochs", fontsize=9)
    axes.set_ylabel("mean p(label)", fontsize=9)
    legend = figure.legend(loc="outside upper center", fontsize=8, frameon=False, ncols=3, markerscale=1.6)
    for text in legend.get_texts():
        text.set_color(look.ink)
    return figure


def history(analysis: Analysis, stem: str) -> Iterator[Part | Drawing]:
    """Yield the counts of the most frequent confusions at each validation."""
    moments = analysis.rows("history")
    epochs = [as_int(row.get("epoch")) for row in moments]
    key = "epoch" if len(set(epochs)) == len(epochs) else "step"
    found = _curves(analysis, key)
    if not found:
        return
    known = [value for row in moments if (value := finite(row, "accuracy")) is not None]
    rise = f" Accuracy went from {percent(known[0])} to {percent(known[-1])}." if len(known) > 1 else ""
    ends = [curve.values[np.isfinite(curve.values)][[0, -1]].tolist() for curve in found]
    said = "; ".join(f"{curve.label} from {a:g} to {b:g}" for curve, (a, b) in zip(found, ends, strict=True))
    yield Heading("Which confusions are learned away")
    yield Drawing(
        f"{stem}-history", "Times a pair was confused", f"{said}.", partial(_draw_history, found, key),
        f"The first class of a pair is the true one. At a gap, other pairs were more frequent.{rise}",
    )  # fmt: skip


def _curves(analysis: Analysis, key: str) -> list[Curve]:
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


def _draw_history(found: Sequence[Curve], key: str, look: Look) -> Canvas:
    figure = blank(look, 3.2)
    axes = axes_of(figure, look)
    for curve, color in zip(found, look.lines, strict=False):
        label = shortened(curve.label, 44)
        axes.plot(curve.steps, curve.values, color=color, linewidth=1.4, marker="o", markersize=3.5, label=label)
    axes.set_ylim(bottom=0.0)
    axes.margins(x=0.02)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_locator(MaxNLocator(5 if look.is_narrow else 8, integer=True))
    axes.set_xlabel(key, fontsize=9)
    axes.set_ylabel("times", fontsize=9)
    legend = figure.legend(loc="outside upper left", fontsize=8, frameon=False, ncols=1 if look.is_narrow else 2)
    for text in legend.get_texts():
        text.set_color(look.ink)
    return figure
