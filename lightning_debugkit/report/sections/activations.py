"""How large activations were through the depth of the network, and which units no longer answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from lightning_debugkit.core.name_lists import percent, plural
from lightning_debugkit.report.figures import (
    axes_of,
    blank_figure,
    legend_above,
    legend_height,
    log_scale,
    name_rows,
    room,
    row_names,
)
from lightning_debugkit.report.heatmap import Heatmap, chosen_rows, heatmap, of_one_rank
from lightning_debugkit.report.number_formats import number
from lightning_debugkit.report.palette import PALETTE
from lightning_debugkit.report.parts import Cell, Drawing, Paragraph, Section, Table, table_of
from lightning_debugkit.report.summary import Summary

_SHARES = {"inactive-units": "inactive units", "saturated-entries": "saturated entries"}
_MOST_ROWS = 20
_LITTLE = 0.005  # less reads as 0 %
_FAR = 100.0  # between the smallest and the largest layer
_ENTERS = "enters the normalisation"


def _parts(summary: Summary, _folder: Path) -> Iterator[Drawing | Paragraph | Table]:
    whole = heatmap(of_one_rank(summary.points("activation-scale")))
    if whole is not None:
        inputs = heatmap(of_one_rank(summary.points("norm-input-scale")))
        faulty = _faulty_rows(whole.layers, summary)
        shown = whole.rows(chosen_rows(whole, faulty))
        marked = {shown.layers.index(whole.layers[row]) for row in faulty if whole.layers[row] in shown.layers}
        draw = partial(_draw, shown, inputs, marked)
        yield Drawing("activation-scale", "Scale of activations by depth", _alt(whole), draw, _caption(whole, inputs))
    for name, meaning in _SHARES.items():
        shares = heatmap(of_one_rank(summary.points(name)))
        if shares is not None:
            yield from _table(shares, meaning)
    if unseen := summary.last("activations-unseen"):
        told = (f"{what} ({why})" for what, why in unseen.items())
        yield Paragraph(f"Could not be looked into: {'; '.join(told)}.", is_problem=True)


def _faulty_rows(layers: tuple[str, ...], summary: Summary) -> list[int]:
    told = [folded.finding for folded in summary.findings if folded.finding.section == SECTION.key]
    accused = {name for finding in told for name in (finding.where.module, finding.evidence.get("layer"))}
    return [row for row, layer in enumerate(layers) if layer in accused]


def _caption(whole: Heatmap, inputs: Heatmap | None) -> str:
    said = "Root mean square of each layer's output, in the order of first execution, from top to bottom."
    if inputs is not None:
        said += " Diamonds are what enters a normalisation in the last sampled step: it hides growth and decay."
    last = whole.norms[:, -1]
    positive = last[np.isfinite(last) & (last > 0)]
    if positive.size > 1 and positive.max() >= _FAR * positive.min():
        times = number(float(positive.max() / positive.min()))
        said += f" In the last sampled step, the largest is {times} times the smallest."
    return said


def _alt(whole: Heatmap) -> str:
    first, last = number(float(whole.norms[0, -1])), number(float(whole.norms[-1, -1]))
    layers, steps = plural(len(whole.layers), "layer"), plural(whole.steps.size, "sampled step")
    ends = f"in the last, {first} in {whole.layers[0]} and {last} in {whole.layers[-1]}"
    return f"Root mean square of the outputs of {layers} in {steps}; {ends}."


def _draw(shown: Heatmap, inputs: Heatmap | None, marked: set[int]) -> Canvas:
    count = len(shown.layers)
    columns = _columns(shown.steps)
    labels = [f"step {shown.steps[column]}" for column in columns]
    if inputs is not None:
        labels.append(_ENTERS)
    top = legend_height(labels)
    figure = blank_figure(
        0.6 + 0.17 * max(count, 5) + top, left=room(row_names(shown.layers, marked), 7) + 0.2, top=top
    )
    axes = axes_of(figure)
    rows = np.arange(count)
    colors = (PALETTE.series[1], PALETTE.series[2], PALETTE.series[0])
    for color, column, label in zip(colors[-len(columns) :], columns, labels, strict=False):
        sizes = np.where(shown.norms[:, column] > 0, shown.norms[:, column], np.nan)
        axes.plot(sizes, rows, color=color, linewidth=1.4, marker="o", markersize=3, label=label)
    if inputs is not None:
        _draw_inputs(axes, shown, inputs)
    axes.set_xscale("log")
    log_scale(axes, "x", *axes.get_xlim(), numticks=8)
    axes.invert_yaxis()
    name_rows(axes, rows.tolist(), shown.layers, marked)
    axes.set_xlabel("root mean square")
    legend_above(axes, labels)
    return figure


def _columns(steps: NDArray[np.int64]) -> Sequence[int]:
    """Return the sampled steps to draw: the first, one halfway through the run, and the last."""
    halfway = int(np.abs(steps - (steps[0] + steps[-1]) / 2).argmin())
    return sorted({0, halfway, steps.size - 1})


def _draw_inputs(axes: Axes, shown: Heatmap, inputs: Heatmap) -> None:
    here = [(shown.layers.index(name), row) for row, name in enumerate(inputs.layers) if name in shown.layers]
    sizes = [inputs.norms[row, -1] for _, row in here]
    axes.scatter(
        sizes, [place for place, _ in here], marker="D", s=22, facecolors="none", edgecolors=PALETTE.series[0],
        label=_ENTERS, zorder=3,
    )  # fmt: skip


def _table(shares: Heatmap, meaning: str) -> Iterator[Table | Paragraph]:
    worst = np.nan_to_num(np.fmax.reduce(shares.norms, axis=1))
    order = [row for row in np.argsort(-worst, kind="stable").tolist() if worst[row] >= _LITTLE]
    rows: list[tuple[Cell | str, ...]] = [
        (Cell(shares.layers[row], is_code=True), *(percent(share, 0) for share in _summary(shares, row)))
        for row in order[:_MOST_ROWS]
    ]
    if rows:
        steps = shares.steps
        caption = f"Share of {meaning} in one sampled step"
        if len(order) > len(rows):
            caption += f", the largest {len(rows)} of {len(order)}"
        yield table_of(caption, ("activation", f"step {steps[0]}", "largest", f"step {steps[-1]}"), rows)
    else:
        yield Paragraph(f"No {meaning} in any of {plural(len(shares.layers), 'activation function')}.")


def _summary(shares: Heatmap, row: int) -> tuple[float, float, float]:
    known = shares.norms[row][np.isfinite(shares.norms[row])]
    return float(known[0]), float(known.max()), float(known[-1])


SECTION = Section("Activations", order=26, parts=_parts, key="activations")
