"""How figures look, and how each becomes one SVG that follows the page's light, dark and print."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal
from xml.etree import ElementTree as ET

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Canvas
from matplotlib.image import AxesImage
from matplotlib.legend import Legend
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import blended_transform_factory
from numpy.typing import NDArray

from lightning_debugkit.core.finding import Severity
from lightning_debugkit.report.number_formats import tail
from lightning_debugkit.report.palette import PALETTE
from lightning_debugkit.report.parts import Drawing, Figure
from lightning_debugkit.report.summary import Summary

WIDTH = 6.1  # inches, 439 units: 640 pixels of a wide page, about 360 of a phone
ZOOM = 1.3  # of text on a phone (style.css): margins leave room for it
_LETTER = 0.56  # mean width of a letter, of its size
_EDGE = 0.2  # inches
_NUMBERS = 3
_LABEL_INCHES = 0.5
_DECADES = 100.0  # between the ends of an axis
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # what no XML can hold
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_LONG_NUMBER = re.compile(r"(\d\.\d\d)\d+")
_MEASURES = ("d", "x", "y", "transform", "points")
_FONT = re.compile(r"(.*?)([\d.]+)px ")
_UNTURNED = re.compile(r"rotate\(-?0 .*\)")


def drawn(drawing: Drawing) -> Figure:
    """Return the figure as SVG; what its ``draw`` raises passes through."""
    written = io.StringIO()
    with own_settings():
        drawing.draw().savefig(written, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return Figure(drawing.name, drawing.title, drawing.alt, as_svg(written.getvalue(), drawing.name), drawing.caption)


@contextmanager
def own_settings() -> Iterator[None]:
    """Draw with matplotlib's defaults whatever the user has set (usetex, say), and put theirs back."""
    with warnings.catch_warnings(), matplotlib.style.context("default"):
        warnings.simplefilter("ignore")  # a glyph that no font has is no news to the user
        mpl.rcParams["svg.fonttype"] = "none"  # text stays text
        mpl.rcParams["svg.hashsalt"] = "lightning-debugkit"  # the same run gives the same file
        mpl.rcParams["text.parse_math"] = False  # names of parameters may hold dollar signs
        yield


def as_svg(written: str, name: str) -> str:
    """Return matplotlib's SVG as one that a page can hold: its policy refuses styles, and ids must differ.

    Args:
        name: Begins every id, so that two figures have none in common.
    """
    text = _UNWRITABLE.sub("\ufffd", written)
    start = text.index("<svg")
    end = text.index(">", start) + 1
    # Without namespaces names stay plain; XML's own are put back below.
    root = ET.fromstring(re.sub(r' xmlns(:\w+)?="[^"]*"', "", text[start:end]) + text[end:].replace(" xlink:", " "))
    for parent in root.iter("defs"):
        for style in parent.findall("style"):
            parent.remove(style)
    for element in root.iter():
        _make_plain(element)
    _rename(root, name)
    root.attrib = {
        "xmlns": "http://www.w3.org/2000/svg",
        **{key: root.attrib[key] for key in ("width", "height", "viewBox")},
        "font-family": "sans-serif",
        "stroke-linejoin": "round",  # as the sheet said that was taken out
    }
    return ET.tostring(root, encoding="unicode")


def _make_plain(element: ET.Element) -> None:
    """Turn the style of an element into attributes, and leave out what says nothing."""
    for rule in element.attrib.pop("style", "").split(";"):
        key, _, value = map(str.strip, rule.partition(":"))
        if key == "font":
            element.attrib.update(_longhand(value))
        elif key and key != "font-family":
            element.set(key, value)
    if "font-size" in element.attrib:
        element.set("font-size", element.attrib["font-size"].removesuffix("px"))
    if _UNTURNED.fullmatch(element.get("transform", "")):
        del element.attrib["transform"]
    for key in _MEASURES:
        if key in element.attrib:
            element.set(key, _LONG_NUMBER.sub(r"\1", " ".join(element.attrib[key].split())))


def _longhand(font: str) -> Iterator[tuple[str, str]]:
    """Yield what ``font`` says, with which older matplotlibs style text: it is a property, and no attribute."""
    if found := _FONT.match(font):
        for word in found[1].split():
            yield {"small-caps": "font-variant"}.get(word, "font-weight" if word.isdigit() else "font-style"), word
        yield "font-size", found[2]


def _rename(root: ET.Element, name: str) -> None:
    """Put ``name`` before the ids that something refers to; the others go."""
    used = set()
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "href" and value.startswith("#"):
                used.add(value[1:])
                element.set(key, f"#{name}-{value[1:]}")
            elif found := _REFERENCE.fullmatch(value):
                used.add(found[1])
                element.set(key, f"url(#{name}-{found[1]})")
    for element in root.iter():
        if element.get("id") in used:
            element.set("id", f"{name}-{element.attrib['id']}")
        else:
            element.attrib.pop("id", None)


def blank_figure(
    height: float, *, left: float = 0.95, right: float = 0.15, top: float = 0.3, bottom: float = 0.55
) -> Canvas:
    """Return an empty figure; all in inches, margins included."""
    figure = Canvas(figsize=(WIDTH, height), facecolor=PALETTE.background)
    figure.subplots_adjust(left / WIDTH, bottom / height, 1 - right / WIDTH, 1 - top / height)
    return figure


def axes_of(figure: Canvas, *, grid: bool = True) -> Axes:
    """Return the calm axes of a figure that has only these."""
    return calm(figure.subplots(), grid=grid)


def calm(axes: Axes, *, grid: bool = True) -> Axes:
    """Return the axes in the report's style."""
    axes.set_facecolor("none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(PALETTE.line)
    axes.tick_params(which="both", colors=PALETTE.ink, labelsize=9, color=PALETTE.line)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(color=PALETTE.ink, fontsize=9)
    # At the edge of the figure: on a phone numbers grow towards it.
    edge = blended_transform_factory(axes.figure.transFigure, axes.transAxes)
    axes.yaxis.set_label_coords(_EDGE / WIDTH, 0.5, transform=edge)
    if grid:
        axes.grid(visible=True, axis="y", color=PALETTE.line, linewidth=0.6)
        axes.set_axisbelow(True)
    return axes


def log_scale(axes: Axes, name: Literal["x", "y"], low: float, high: float, numticks: int | None = None) -> None:
    """Make an axis logarithmic, its numbers written as people do: within two decades, some between the powers."""
    axes.set(**{f"{name}scale": "log"})
    axis: Axis = getattr(axes, f"{name}axis")
    subs = (1.0,) if high > _DECADES * low else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=subs, numticks=numticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def name_rows(axes: Axes, places: Sequence[float], layers: Sequence[str], marked: Collection[int]) -> None:
    """Write the names of layers beside their rows, those of ``marked`` rows in red."""
    for row, text in enumerate(axes.set_yticks(places, row_names(layers, marked), fontsize=7)):
        if row in marked:
            text.label1.set(color=PALETTE.error, fontweight="bold")


def row_names(layers: Sequence[str], marked: Collection[int]) -> list[str]:
    """Return the names of layers as they stand beside rows."""
    return [f"▶ {tail(layer, 30)}" if row in marked else tail(layer, 30) for row, layer in enumerate(layers)]


def color_bar(axes: Axes, colors: NDArray[np.float64], low: float, high: float) -> Axes:
    """Draw the meaning of colours, (n, 4) from the greatest down, and return the axes for their numbers."""
    bar = calm(axes, grid=False)
    paint(bar, colors[:, None], (0.0, 1.0, low, high))
    for spine in bar.spines.values():
        spine.set_visible(False)
    bar.set_xticks([])
    bar.yaxis.tick_right()
    return bar


def room(texts: Sequence[str], size: float) -> float:
    """Return the inches that the longest of some texts takes on a phone, ``size`` in points."""
    return max(map(len, texts), default=0) * _LETTER * size * ZOOM / 72


def _legend_columns(labels: Sequence[str]) -> int:
    return max(1, int((WIDTH - 0.6) / (room(labels, 8) + 0.5)))


def legend_height(labels: Sequence[str]) -> float:
    """Return the inches that a legend above the axes takes."""
    return 0.12 + 0.2 * math.ceil(len(labels) / _legend_columns(labels))


def legend_above(axes: Axes, labels: Sequence[str], *, lift: float = 0.0, **options: object) -> Legend:
    """Put a legend above the axes, where it hides nothing; ``lift`` in inches."""
    height = axes.bbox.height / axes.figure.dpi
    spacing = 1.5 + (ZOOM - 1) * _LETTER * max(map(len, labels), default=0)  # text grows into it on a phone
    return axes.legend(
        loc="lower left", bbox_to_anchor=(0.0, 1.0 + lift / height), ncols=_legend_columns(labels), fontsize=8,
        frameon=False, labelcolor=PALETTE.ink, borderaxespad=0.3, borderpad=0.0, columnspacing=spacing,
        handlelength=1.6, **options,
    )  # fmt: skip


def paint(axes: Axes, cells: NDArray[np.float64], extent: tuple[float, float, float, float]) -> AxesImage:
    """Draw cells as one picture, a pixel each.

    Shapes:
        cells: (rows, columns, 4), red, green, blue and alpha in 0..1; the first row is on top.

    Args:
        extent: Left, right, bottom and top in the units of the axes.
    """
    return axes.imshow((255 * cells).round().astype(np.uint8), extent=extent, aspect="auto", interpolation="none")


def mark_findings(axes: Axes, summary: Summary) -> None:
    """Draw a line at the steps of errors and warnings, with their numbers in the report."""
    colors: dict[int, str] = {}
    numbers: dict[int, list[int]] = {}
    for told in summary.of(Severity.ERROR, Severity.WARNING):
        step = told.finding.where.step
        numbers.setdefault(step, []).append(told.number)
        colors.setdefault(step, PALETTE.error if told.finding.severity is Severity.ERROR else PALETTE.warning)
    for step, color in colors.items():
        axes.axvline(step, color=color, linewidth=1.0, linestyle=(0, (3, 2)), zorder=1.5)
    left, right = axes.get_xlim()
    # A step that broke is often the one after the last that was measured.
    pad = 0.02 * (right - left)
    left, right = axes.set_xlim(*_around(left, right, [*colors], pad))
    for step, held in together(numbers, (right - left) * _LABEL_INCHES / WIDTH).items():
        label = ",".join(map(str, held[:_NUMBERS])) + ("…" if len(held) > _NUMBERS else "")
        axes.annotate(
            label, (step, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 2), textcoords="offset points",
            color=colors[step], fontsize=8, ha="center", va="bottom", annotation_clip=False,
        )  # fmt: skip


def _around(left: float, right: float, steps: Sequence[int], pad: float) -> tuple[float, float]:
    """Return the ends of an axis that holds ``steps``, too."""
    first, last = min(steps, default=left), max(steps, default=right)
    return left if left <= first else first - pad, right if last <= right else last + pad


def together(numbers: Mapping[int, Sequence[int]], least: float) -> dict[int, list[int]]:
    """Return the numbers to print at which step, so that labels lie at least ``least`` steps apart.

    The gravest, which has the lowest number, keeps its own step; its neighbours join it.

    >>> together({4: [2], 6: [1], 24: [3]}, least=5)
    {6: [1, 2], 24: [3]}
    """
    kept: dict[int, list[int]] = {}
    for step in sorted(numbers, key=lambda each: min(numbers[each])):
        nearest = min(kept, key=lambda each: abs(each - step), default=step)
        kept.setdefault(nearest if abs(nearest - step) < least else step, []).extend(numbers[step])
    return {step: sorted(held) for step, held in kept.items()}
