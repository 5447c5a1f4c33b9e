"""The confusion matrix: few classes with their counts, of many the most confused ones, and all of them from afar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_rgb
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from lightning_debugkit.report.drawing import Look, axes_of, blank, calm
from lightning_debugkit.report.errors.analysis import Analysis
from lightning_debugkit.report.parts import Drawing
from lightning_debugkit.report.wording import as_int, as_list, percent, shortened

MOST = 20
BLOCKS = 160
_COUNTED = 12  # classes up to which a cell has room for its count
_DECADES = 100
_FAINTEST = 0.06
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


def places(analysis: Analysis) -> dict[int, int]:
    """Return the place of each class in the order in which confused classes stand together."""
    met = {*range(len(analysis.names)), *analysis.cells[:, :2].ravel().tolist()}
    wanted = [as_int(each, -1) for each in as_list(analysis.held.get("order"))]
    order = dict.fromkeys([*(each for each in wanted if each in met), *sorted(met)])
    return {each: place for place, each in enumerate(order)}


def met(analysis: Analysis) -> dict[int, int]:
    """Return the places among each other of classes that have samples or predictions; of few classes, of all."""
    place_of = places(analysis)
    if len(place_of) <= MOST:
        return place_of
    seen = set(analysis.cells[:, :2].ravel().tolist())
    return {each: place for place, each in enumerate(each for each in place_of if each in seen)}


def most_confused(analysis: Analysis, most: int = MOST) -> list[int]:
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


def view(analysis: Analysis, most: int = MOST) -> View:
    """Return the matrix of at most ``most`` classes."""
    kept = most_confused(analysis, most)
    row_of = {each: row for row, each in enumerate(kept)}
    counts = np.zeros((len(kept), len(kept)), dtype=np.int64)
    support = np.zeros(len(kept), dtype=np.int64)
    for target, predicted, count in analysis.cells[np.isin(analysis.cells[:, 0], kept)].tolist():
        support[row_of[target]] += count
        if predicted in row_of:
            counts[row_of[target], row_of[predicted]] += count
    return View(tuple(analysis.name(each) for each in kept), counts, support)


def blocks(analysis: Analysis, most: int = BLOCKS) -> NDArray[np.int64]:
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


def drawings(analysis: Analysis, stem: str) -> Iterator[Drawing]:
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


def _absent(analysis: Analysis) -> str:
    """Return how many classes are left out, empty if none is."""
    drawn = met(analysis)
    count = sum(each not in drawn and not analysis.is_nothing(each) for each in places(analysis))
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


def draw_view(shown: View, look: Look) -> Canvas:
    """Draw the matrix with names and, where there is room, counts."""
    count = len(shown.names)
    side = min(look.width - (1.3 if look.is_narrow else 2.1), max(0.48 * count, 1.8))
    figure = blank(look, side + (1.15 if look.is_narrow else 1.45))
    axes = axes_of(figure, look, grid=False)
    image = colors(shown, look)
    axes.imshow(image, interpolation="nearest")
    axes.set_anchor("NW")
    size = 8.5 if count <= _COUNTED else 7.5
    size -= 1.5 if look.is_narrow else 0
    most = 12 if look.is_narrow else 18
    names = told_apart(shown.names, most)
    is_long = max(map(len, names)) * size * 0.6 / 72 > side / count
    axes.set_xticks(range(count), names, rotation=90 if is_long else 0, fontsize=size)
    rows = [f"{name} ({n:,})" for name, n in zip(names, shown.support.tolist(), strict=True)]
    axes.set_yticks(range(count), rows, fontsize=size)
    axes.set_xlabel("taken for", fontsize=9)
    axes.set_ylabel("true class", fontsize=9)
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=look.faint, linewidth=0.5)
    axes.tick_params(which="both", length=0)
    widest = max((len(f"{n:,}") for n in shown.counts.ravel().tolist()), default=1)
    if count <= _COUNTED and widest * size * 0.62 / 72 < side / count:
        for row, column in np.argwhere(shown.counts).tolist():
            ink = _readable(image[row, column], look)
            axes.text(column, row, f"{shown.counts[row, column]:,}", ha="center", va="center", color=ink, fontsize=size)
    return figure


def told_apart(names: Sequence[str], most: int) -> list[str]:
    """Return the names cut to ``most`` letters at the end that leaves most of them unlike each other.

    Example:
        >>> told_apart(["Labrador retriever", "golden retriever"], 9), told_apart(["class_01_a", "class_02_a"], 7)
        (['Labrador…', 'golden r…'], ['…s_01_a', '…s_02_a'])
    """
    heads = [name if len(name) <= most else name[: most - 1] + "…" for name in names]
    ends = [name if len(name) <= most else "…" + name[-(most - 1) :] for name in names]
    middles = [shortened(name, most) for name in names]
    return max((heads, ends, middles), key=lambda labels: len(set(labels)))


def colors(shown: View, look: Look) -> NDArray[np.float64]:
    """Return the colour of each cell: the share of its row, of wrong answers as its root, so that few show too."""
    shares = shown.counts / np.maximum(shown.support, 1)[:, None]
    is_right = np.eye(len(shown.names), dtype=bool)
    depth = np.where(is_right, shares, np.sqrt(np.minimum(shares / _FULL, 1.0)))
    depth = np.where(shown.counts > 0, _FAINTEST + (0.9 - _FAINTEST) * depth, 0.0)[..., None]
    hue = np.where(is_right[..., None], to_rgb(look.lines[0]), to_rgb(look.error))
    mixed: NDArray[np.float64] = depth * hue + (1 - depth) * np.array(to_rgb(look.background))
    return mixed


def _readable(ground: NDArray[np.float64], look: Look) -> str:
    """Return the ink that stands out more."""

    def contrast(ink: str) -> float:
        light, dark = sorted((_luminance(rgb) + 0.05 for rgb in (to_rgb(ink), ground)), reverse=True)
        return light / dark

    return max((look.ink, look.background), key=contrast)


def _luminance(rgb: Sequence[float] | NDArray[np.float64]) -> float:
    return float(np.array([0.2126, 0.7152, 0.0722]) @ np.asarray(rgb) ** 2.2)


def draw_blocks(summed: NDArray[np.int64], classes: int, look: Look) -> Canvas:
    """Draw where mistakes are in the whole matrix."""
    figure = blank(look, look.width * (0.78 if look.is_narrow else 0.58))
    # The square and its scale fill the left of a wide page, as the matrix above does.
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 0.01 if look.is_narrow else 0.38))
    right.set_axis_off()
    axes = calm(left, look, grid=False)
    scale = LinearSegmentedColormap.from_list("mistakes", [look.faint, look.error, look.ink])
    scale.set_bad(look.background)
    shown = np.ma.masked_equal(summed, 0)
    drawn = axes.imshow(
        shown, cmap=scale, norm=LogNorm(1, max(int(summed.max()), 2)), extent=(0, classes, classes, 0),
        interpolation="nearest",
    )  # fmt: skip
    bar = figure.colorbar(drawn, ax=axes, shrink=0.7, pad=0.02)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0,) if summed.max() >= _DECADES else (1.0, 2.0, 5.0)))
    bar.ax.tick_params(colors=look.ink, labelsize=8)
    bar.outline.set_visible(False)
    bar.set_label("mistakes", color=look.ink, fontsize=9)
    axes.set_xlabel("taken for", fontsize=9)
    axes.set_ylabel("true class", fontsize=9)
    return figure
