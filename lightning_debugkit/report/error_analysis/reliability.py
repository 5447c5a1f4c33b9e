"""Whether the model is right as often as it says it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from matplotlib.figure import Figure as Canvas

from lightning_debugkit.core.name_lists import percent
from lightning_debugkit.report.error_analysis.analysis_file import AnalysisFile, Row, finite_number, share
from lightning_debugkit.report.figures import blank_figure, calm
from lightning_debugkit.report.number_formats import as_int, as_mapping
from lightning_debugkit.report.palette import PALETTE
from lightning_debugkit.report.parts import Drawing, Heading, Paragraph, Part


def reliability(analysis: AnalysisFile, stem: str) -> Iterator[Part | Drawing]:
    """Yield the reliability diagram and the expected calibration error."""
    held = AnalysisFile(as_mapping(analysis.held.get("calibration")))
    bins = [row for row in held.rows("bins") if as_int(row.get("n")) > 0 and None not in _point(row)]
    if not bins:
        return
    n = sum(as_int(row.get("n")) for row in bins)
    says, right = (sum(as_int(row.get("n")) * (finite_number(row, key) or 0.0) for row in bins) / n for key in _POINT)
    error = share(held.held, "ece", "ece_low", "ece_high")
    yield Heading("How sure it is, and how often right")
    yield Paragraph(
        f"On average it is {percent(says)} sure of its answer and right in {percent(right)}."
        + (f" Expected calibration error: {error}." if error else "")
    )
    alt = f"Confidence {percent(says)}, accuracy {percent(right)} in {len(bins)} bins."
    yield Drawing(
        f"{stem}-reliability", "Reliability", alt, partial(_draw, bins),
        "Points below the diagonal: more sure than right. Bars are 95 % intervals, the strip below says how many "
        f"{analysis.unit} a point stands for.",
    )  # fmt: skip


_POINT = ("confidence", "accuracy")


def _point(row: Row) -> tuple[float | None, float | None]:
    return finite_number(row, _POINT[0]), finite_number(row, _POINT[1])


def _draw(bins: Sequence[Row]) -> Canvas:
    figure = blank_figure(4.1, right=1.3, top=0.1)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
    axes, strip = calm(upper), calm(lower)
    axes.plot([0, 1], [0, 1], color=PALETTE.zero, linewidth=1.2, linestyle=(0, (4, 3)))
    says = [finite_number(row, "confidence") or 0.0 for row in bins]
    right = [finite_number(row, "accuracy") or 0.0 for row in bins]
    for row, x in zip(bins, says, strict=True):
        low, high = finite_number(row, "accuracy_low"), finite_number(row, "accuracy_high")
        if low is not None and high is not None:
            axes.plot([x, x], [low, high], color=PALETTE.series[0], linewidth=1.3)
    axes.plot(says, right, color=PALETTE.series[0], linestyle="none", marker="o", markersize=5)
    edges = [(finite_number(row, "low"), finite_number(row, "high")) for row in bins]
    if all(None not in pair for pair in edges):
        left, ends = np.array(edges, dtype=np.float64).T
        counts = [as_int(row.get("n")) for row in bins]
        strip.bar(left, counts, width=ends - left, align="edge", color=PALETTE.zero, edgecolor=PALETTE.background)
    for panel in (axes, strip):
        panel.xaxis.set_major_formatter(lambda value, _: percent(value))
    axes.yaxis.set_major_formatter(lambda value, _: percent(value))
    axes.set_ylim(-0.02, 1.02)
    strip.set_xlim(-0.02, 1.02)
    strip.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    strip.set_yticks([strip.get_yticks()[-2]])
    axes.set_ylabel("right")
    strip.set_xlabel("how sure the model is")
    return figure
