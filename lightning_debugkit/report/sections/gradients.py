"""How large the gradients were, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from lightning_debugkit.core.finding import Severity
from lightning_debugkit.core.name_lists import listed, plural
from lightning_debugkit.report.figures import (
    axes_of,
    blank_figure,
    color_bar,
    legend_above,
    legend_height,
    mark_findings,
    name_rows,
    paint,
    room,
    row_names,
)
from lightning_debugkit.report.heatmap import Heatmap, chosen_rows, edges, evenly, heatmap, narrowed, of_one_rank
from lightning_debugkit.report.number_formats import as_list, as_mapping
from lightning_debugkit.report.palette import GREY, RED
from lightning_debugkit.report.parts import Drawing, Paragraph, Section
from lightning_debugkit.report.summary import Summary

_COLORS = colormaps["viridis"]


def _parts(summary: Summary, _folder: Path) -> Iterator[Drawing | Paragraph]:
    unseen = [as_mapping(point.value).get("why", "") for point in summary.points("gradients-unseen")]
    if unseen:
        yield Paragraph(f"Not seen: {'; '.join(dict.fromkeys(map(str, unseen)))}.")
    whole = heatmap(of_one_rank(summary.points("gradient-norms")))
    if whole is None:
        return
    faulty = faulty_rows(whole.layers, summary)
    kept = chosen_rows(whole, faulty)
    shown = narrowed(whole.rows(kept))
    marked = {kept.index(row) for row in faulty if row in kept}
    caption = "Layers from top to bottom, in the order they are registered; colour is log10 of the norm."
    if len(kept) < len(whole.layers):
        caption += f" {len(kept)} of {len(whole.layers)} parameters are shown: faulty ones, extremes, an even spread."
    draw = partial(_draw, shown, marked, summary)
    yield Drawing("gradient-norms", "Gradient norms by layer", _alt(whole, marked, shown), draw, caption)


def faulty_rows(layers: tuple[str, ...], summary: Summary) -> list[int]:
    """Return the rows that an error or warning points to, by the name of the parameter or of its module."""
    names: dict[str, None] = {}
    for told in summary.of(Severity.ERROR, Severity.WARNING):
        accused = [told.finding.where.module, *map(str, as_list(told.finding.evidence.get("parameters")))]
        names.update(dict.fromkeys(filter(None, accused)))
    return [
        row for row, layer in enumerate(layers) if any(layer == name or layer.startswith(f"{name}.") for name in names)
    ]


def _alt(whole: Heatmap, marked: set[int], shown: Heatmap) -> str:
    said = f"Gradient norms of {plural(len(whole.layers), 'parameter')} over {plural(whole.steps.size, 'look')}"
    broken = [whole.layers[row] for row in np.flatnonzero(whole.is_nonfinite.any(axis=1))]
    if broken:
        said += f"; not finite in {listed(broken)}"
    if marked:
        said += f"; marked as faulty: {', '.join(shown.layers[row] for row in sorted(marked)[:3])}"
    return said + "."


def _draw(shown: Heatmap, marked: set[int], summary: Summary) -> Canvas:
    count = len(shown.layers)
    kinds = ((shown.is_nonfinite, RED, "not finite"), (shown.norms == 0, GREY, "exactly zero"))
    patches = [Patch(color=color, label=label) for where, color, label in kinds if where.any()]
    top = 0.3 + (legend_height(["not finite", "exactly zero"]) if patches else 0.0)
    has_scale = bool((shown.norms > 0).any())
    figure = blank_figure(
        0.45 + 0.155 * max(count, 4) + top,
        left=room(row_names(shown.layers, marked), 7) + 0.15,
        right=0.9 if has_scale else 0.15,
        top=top,
    )
    axes = axes_of(figure, grid=False)
    borders = edges(shown.steps)
    cells, scale = _colors(shown)
    paint(axes, evenly(cells, borders), (borders[0], borders[-1], count, 0))
    name_rows(axes, [row + 0.5 for row in range(count)], shown.layers, marked)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("step")
    if scale is not None:
        _draw_scale(figure, axes, *scale)
    if patches:
        legend_above(axes, [str(patch.get_label()) for patch in patches], lift=0.15, handles=patches)
    mark_findings(axes, summary)
    return figure


def _colors(shown: Heatmap) -> tuple[NDArray[np.float64], tuple[float, float] | None]:
    """Return the colour of each cell, clear where nothing was measured, and the range of log10 that they span."""
    cells = np.zeros((*shown.norms.shape, 4))
    positive = shown.norms > 0
    scale = None
    if positive.any():
        scaled = np.log10(np.where(positive, shown.norms, np.nan))
        low, high = float(np.nanmin(scaled)), float(np.nanmax(scaled))
        # One value alone still needs a range to have a colour.
        scale = low, (high if high > low else low + 1.0)
        cells[positive] = _COLORS((scaled[positive] - low) / (scale[1] - low))
    cells[shown.norms == 0] = to_rgba(GREY)
    cells[shown.is_nonfinite] = to_rgba(RED)
    return cells, scale


def _draw_scale(figure: Canvas, axes: Axes, low: float, high: float) -> None:
    place = axes.get_position()
    beside = figure.add_axes((place.x1 + 0.015, place.y0 + 0.1 * place.height, 0.018, 0.8 * place.height))
    bar = color_bar(beside, _COLORS(np.linspace(1, 0, 64)), low, high)
    room_for = int(beside.bbox.height / figure.dpi / 0.22)  # numbers, one above the other
    bar.yaxis.set_major_locator(MaxNLocator(min(max(room_for, 1), 5), integer=high - low > 3))
    bar.yaxis.set_major_formatter(FuncFormatter(lambda power, _: f"{float(f'{10.0**power:.2g}'):g}"))
    bar.tick_params(labelsize=8)


SECTION = Section("Gradients", order=20, parts=_parts, key="gradients")
