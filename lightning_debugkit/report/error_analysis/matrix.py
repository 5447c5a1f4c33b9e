"""The confusion matrix: few classes with their counts, of many the most confused ones, and all of them from afar."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from lightning_debugkit.core.name_lists import percent
from lightning_debugkit.report.error_analysis.analysis_file import AnalysisFile
from lightning_debugkit.report.figures import WIDTH, axes_of, blank_figure, color_bar, paint, room
from lightning_debugkit.report.number_formats import as_int, as_list, shortened
from lightning_debugkit.report.palette import BLUE, PALETTE, RED
from lightning_debugkit.report.parts import Drawing

MOST = 20
BLOCKS = 160
_COUNTED = 12  # classes up to which a cell has room for its count
_DECADES = 100
_FAINTEST = 0.06
_DEEP = 0.62  # alpha from which light text reads better, on a light page and on a dark one
_LIGHT = "#fefefe"
_FULL = 0.5  # share of a row at which a wrong answer has its full colour


@dataclass(frozen=True)
class View:
    """The part of a confusion matrix that is shown.

    Shapes:
        counts: (classes, classes), rows are true classes.
        support: (classes,), of all predictions, also those that are not shown.
    """

    names: tuple[str, ...]
    counts: NDArray[np.int64]
    support: NDArray[np.int64]


def class_places(analysis: AnalysisFile) -> dict[int, int]:
    """Return the place of each class in the order in which confused classes stand together."""
    met = {*range(len(analysis.names)), *analysis.cells[:, :2].ravel().tolist()}
    wanted = [as_int(each, -1) for each in as_list(analysis.held.get("order"))]
    order = dict.fromkeys([*(each for each in wanted if each in met), *sorted(met)])
    return {each: place for place, each in enumerate(order)}


def met(analysis: AnalysisFile) -> dict[int, int]:
    """Return the places among each other of classes that have samples or predictions; of few classes, of all."""
    place_of = class_places(analysis)
    if len(place_of) <= MOST:
        return place_of
    seen = set(analysis.cells[:, :2].ravel().tolist())
    return {each: place for place, each in enumerate(each for each in place_of if each in seen)}


def most_confused_view(analysis: AnalysisFile, most: int = MOST) -> list[int]:
    """Return at most ``most`` classes, those of the most frequent confusions, in the order of their places."""
    place_of = met(analysis)
    if len(place_of) <= most:
        return list(place_of)
    cells = analysis.cells
    wrong = cells[cells[:, 0] != cells[:, 1]]
    kept: dict[int, None] = {}
    for target, predicted, _ in wrong[np.argsort(-wrong[:, 2], kind="stable")].tolist():
        if len({target, predicted, *kept}) > most:
            break
        kept.update({target: None, predicted: None})
    return sorted(kept, key=lambda each: place_of[each])


def view(analysis: AnalysisFile, most: int = MOST) -> View:
    """Return the matrix of at most ``most`` classes."""
    kept = most_confused_view(analysis, most)
    row_of = {each: row for row, each in enumerate(kept)}
    counts = np.zeros((len(kept), len(kept)), dtype=np.int64)
    support = np.zeros(len(kept), dtype=np.int64)
    for target, predicted, count in analysis.cells[np.isin(analysis.cells[:, 0], kept)].tolist():
        support[row_of[target]] += count
        if predicted in row_of:
            counts[row_of[target], row_of[predicted]] += count
    return View(tuple(analysis.name(each) for each in kept), counts, support)


def blocks(analysis: AnalysisFile, most: int = BLOCKS) -> NDArray[np.int64]:
    """Return the mistakes of all classes that were met, summed in at most ``most`` by ``most`` blocks of neighbours."""
    place_of = met(analysis)
    side = min(len(place_of), most)
    cells = analysis.cells
    wrong = cells[cells[:, 0] != cells[:, 1]]
    ids = np.array(sorted(place_of))
    block = np.array([place_of[each] for each in ids.tolist()]) * side // len(place_of)
    rows, columns = (block[np.searchsorted(ids, wrong[:, axis])] for axis in (0, 1))
    summed = np.zeros((side, side), dtype=np.int64)
    np.add.at(summed, (rows, columns), wrong[:, 2])
    return summed


def drawings(analysis: AnalysisFile, stem: str) -> Iterator[Drawing]:
    """Yield the heat map and, of many classes, the overview; nothing where there is but one class."""
    classes = len(met(analysis))
    shown, absent = view(analysis), _absent(analysis)
    if classes < 2 or not shown.names:
        return
    title, said = "Confusion matrix", "Rows are true classes with their number, columns what they were taken for."
    said += " Blue is right, red is wrong, the deeper the larger the share of its row."
    if len(shown.names) < classes:
        wrong = int(shown.counts.sum() - np.trace(shown.counts))
        title = f"Confusion matrix of the {len(shown.names)} most confused of {classes:,} classes"
        said += f" {percent(wrong / max(analysis.mistakes, 1))} of all mistakes are among these classes."
    yield Drawing(f"{stem}-confusion", title, _alt(shown), partial(draw_view, shown), said + absent)
    if len(shown.names) < classes and analysis.mistakes:
        summed = blocks(analysis)
        yield Drawing(
            f"{stem}-overview",
            f"All {classes:,} classes{' that were met' if absent else ''}",
            f"Mistakes of {classes:,} classes; {_near(summed)} lie next to the diagonal.",
            partial(draw_blocks, summed, classes),
            "Only mistakes. Classes that are confused stand beside each other: a square on the diagonal is a group of "
            f"look-alikes. {_near(summed)} of the mistakes lie next to the diagonal, within a tenth of these classes."
            f"{absent}",
        )


def _absent(analysis: AnalysisFile) -> str:
    """Return how many classes are left out, empty if none is."""
    drawn = met(analysis)
    count = sum(each not in drawn and not analysis.is_nothing(each) for each in class_places(analysis))
    have = "1 class has" if count == 1 else f"{count:,} classes have"
    return f" {have} neither {analysis.unit} nor predictions, and no place here." if count else ""


def _alt(shown: View) -> str:
    wrong = np.where(np.eye(len(shown.names), dtype=bool), 0, shown.counts)
    said = f"{len(shown.names)} by {len(shown.names)} classes"
    if not wrong.any():
        return f"{said}; no mistakes."
    row, column = np.unravel_index(int(wrong.argmax()), wrong.shape)
    return f"{said}; most often {shown.names[row]} is taken for {shown.names[column]}, {wrong[row, column]} times."


def _near(summed: NDArray[np.int64]) -> str:
    side = len(summed)
    rows, columns = np.indices(summed.shape)
    return percent(float(summed[np.abs(rows - columns) <= side / 20].sum() / summed.sum()))


def draw_view(shown: View) -> Canvas:
    """Draw the matrix with names and, where there is room, counts."""
    count = len(shown.names)
    size = 8.5 if count <= _COUNTED else 7.5
    names = told_apart(shown.names, 18)
    rows = [f"{name} ({n:,})" for name, n in zip(names, shown.support.tolist(), strict=True)]
    left = room(rows, size) + 0.4
    side = min(WIDTH - left - 0.15, max(0.48 * count, 1.8))
    is_long = room(names, size) > 0.9 * side / count
    bottom = (room(names, size) if is_long else 0.2) + 0.4
    figure = blank_figure(side + bottom + 0.1, left=left, right=WIDTH - left - side, top=0.1, bottom=bottom)
    axes = axes_of(figure, grid=False)
    cells = colors(shown)
    paint(axes, cells, (-0.5, count - 0.5, count - 0.5, -0.5))
    axes.set_xticks(range(count), names, rotation=90 if is_long else 0, fontsize=size)
    axes.set_yticks(range(count), rows, fontsize=size)
    axes.set_xlabel("taken for")
    axes.set_ylabel("true class")
    borders = np.arange(count + 1) - 0.5
    axes.hlines(borders, -0.5, count - 0.5, color=PALETTE.line, linewidth=0.5)
    axes.vlines(borders, -0.5, count - 0.5, color=PALETTE.line, linewidth=0.5)
    axes.tick_params(which="both", length=0)
    widest = max((f"{n:,}" for n in shown.counts.ravel().tolist()), key=len, default="")
    if count <= _COUNTED and room([widest], size) < side / count:
        for row, column in np.argwhere(shown.counts).tolist():
            ink = _LIGHT if cells[row, column, 3] > _DEEP else PALETTE.ink
            axes.text(column, row, f"{shown.counts[row, column]:,}", ha="center", va="center", color=ink, fontsize=size)
    return figure


def told_apart(names: Sequence[str], most: int) -> list[str]:
    """Return the names cut to ``most`` letters at the end that leaves most of them unlike each other.

    >>> told_apart(["Labrador retriever", "golden retriever"], 9), told_apart(["class_01_a", "class_02_a"], 7)
    (['Labrador…', 'golden r…'], ['…s_01_a', '…s_02_a'])
    """
    heads = [name if len(name) <= most else name[: most - 1] + "…" for name in names]
    ends = [name if len(name) <= most else "…" + name[-(most - 1) :] for name in names]
    middles = [shortened(name, most) for name in names]
    return max((heads, ends, middles), key=lambda labels: len(set(labels)))


def colors(shown: View) -> NDArray[np.float64]:
    """Return the colour of each cell, as clear as it is rare: its share of its row, of wrong answers as the root.

    Shapes:
        returns (classes, classes, 4): red, green, blue and alpha, so that a light or a dark page shines through.
    """
    shares = shown.counts / np.maximum(shown.support, 1)[:, None]
    is_right = np.eye(len(shown.names), dtype=bool)
    depth = np.where(is_right, shares, np.sqrt(np.minimum(shares / _FULL, 1.0)))
    depth = np.where(shown.counts > 0, _FAINTEST + (0.9 - _FAINTEST) * depth, 0.0)[..., None]
    hue = np.where(is_right[..., None], to_rgb(BLUE), to_rgb(RED))
    return np.concatenate([hue, depth], axis=-1)


def draw_blocks(summed: NDArray[np.int64], classes: int) -> Canvas:
    """Draw where mistakes are in the whole matrix."""
    side = 3.4
    figure = blank_figure(side + 0.65, left=1.0, right=WIDTH - 1.0 - side, top=0.1)
    axes = axes_of(figure, grid=False)
    most = max(int(summed.max()), 2)
    cells = np.zeros((*summed.shape, 4))
    met = summed > 0
    cells[met] = _shades(np.log(summed[met]) / math.log(most))
    paint(axes, cells, (0, classes, classes, 0))
    axes.set_xlabel("taken for")
    axes.set_ylabel("true class")
    shades = _shades(np.linspace(1, 0, 64))
    bar = color_bar(figure.add_axes((4.6 / WIDTH, 0.3, 0.02, 0.5)), shades, 0.0, math.log10(most))
    bases = (1,) if most >= _DECADES else (1, 2, 5)
    ticks = [base * 10**power for power in range(int(math.log10(most)) + 1) for base in bases]
    ticks = [tick for tick in ticks if tick <= most]
    bar.set_yticks(np.log10(ticks), [f"{tick:g}" for tick in ticks], fontsize=8)
    bar.yaxis.set_label_position("right")
    bar.yaxis.set_label_coords(2.9, 0.5)
    bar.set_ylabel("mistakes")
    return figure


def _shades(depth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return red, the clearer the smaller ``depth`` in 0..1."""
    shades = np.empty((*np.shape(depth), 4))
    shades[..., :3], shades[..., 3] = to_rgb(RED), 0.25 + 0.75 * depth
    return shades
