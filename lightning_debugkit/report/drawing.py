"""How figures look, and how they become images, without touching the user's matplotlib settings."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from PIL import Image, ImageColor

from lightning_debugkit.finding import Severity
from lightning_debugkit.report.parts import Drawing, Figure
from lightning_debugkit.report.summary import Summary

_DPI = 130
_LARGE = 60_000  # bytes
BAD_PIXEL = "#ee1c1c"
_PLACES = np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)  # one number for each colour
_NARROWEST_WIDE = 5.0
_NUMBERS = 3
_LABEL_INCHES = 0.5


@dataclass(frozen=True)
class Look:
    """Colours and width of a figure.

    Args:
        width: Inches; a narrow figure is read on a phone.
    """

    name: str
    background: str
    ink: str
    faint: str
    lines: tuple[str, ...]
    error: str
    warning: str
    zero: str
    width: float = 7.6

    @property
    def is_narrow(self) -> bool:
        return self.width < _NARROWEST_WIDE


LIGHT = Look(
    name="light",
    background="#ffffff",
    ink="#30343b",
    faint="#d9dce1",
    lines=("#2f5d9b", "#8a5a00", "#4d7c3a", "#7a4b9d", "#00796f", "#9c4668"),
    error="#c8281e",
    warning="#a85b00",
    zero="#b9bec7",
)
DARK = Look(
    name="dark",
    background="#181b20",
    ink="#d5d9e0",
    faint="#3a3f48",
    lines=("#82b1f0", "#e0b055", "#93c47d", "#c39be0", "#5cc4b8", "#e59ab5"),
    error="#ff6b5e",
    warning="#f0a64a",
    zero="#565c67",
)
LOOKS = (
    LIGHT,
    DARK,
    replace(LIGHT, name="light-narrow", width=4.3),
    replace(DARK, name="dark-narrow", width=4.3),
)


def drawn(drawing: Drawing) -> Figure:
    """Return the figure in all looks; what its ``draw`` raises passes through."""
    with _own_settings():
        images = {look.name: _png(drawing.draw, look) for look in LOOKS}
    return Figure(drawing.name, drawing.title, drawing.alt, images, drawing.caption)


@contextmanager
def _own_settings() -> Iterator[None]:
    """Draw with matplotlib's defaults whatever the user has set (usetex, say), and put theirs back."""
    with warnings.catch_warnings(), matplotlib.style.context("default"):
        warnings.simplefilter("ignore")  # a glyph that no font has is no news to the user
        mpl.rcParams["text.parse_math"] = False  # names of parameters may hold dollar signs
        yield


def _png(draw: Callable[[Look], Canvas], look: Look) -> bytes:
    buffer = io.BytesIO()
    draw(look).savefig(buffer, format="png", dpi=_DPI, facecolor=look.background)
    return _smaller(buffer, look) if buffer.tell() > _LARGE else buffer.getvalue()


def _smaller(buffer: io.BytesIO, look: Look) -> bytes:
    """Return a large image in 256 colours, a fifth of the size."""
    # A few red cells among many others would lose their colour: those that mean something are kept as they are.
    meant = [ImageColor.getrgb(c) for c in (look.background, look.ink, look.error, look.warning, look.zero, BAD_PIXEL)]
    with Image.open(buffer) as image, io.BytesIO() as smaller:
        colors = image.convert("RGB")
        few = colors.quantize(256 - len(meant), dither=Image.Dither.NONE)
        common = (few.getpalette() or [])[: 3 * (256 - len(meant))]
        pixels, places = np.asarray(colors, dtype=np.uint32) @ _PLACES, np.array(few)
        for count, color in enumerate(meant):
            places[pixels == np.array(color, dtype=np.uint32) @ _PLACES] = len(common) // 3 + count
        exact = Image.fromarray(places)  # grey until it has its palette
        exact.putpalette([*common, *(part for color in meant for part in color)])
        exact.save(smaller, "PNG", optimize=True)
        return smaller.getvalue()


def blank(look: Look, height: float) -> Canvas:
    """Return an empty figure of this look, ``height`` in inches."""
    return Canvas(figsize=(look.width, height), facecolor=look.background, layout="constrained")


def axes_of(figure: Canvas, look: Look, *, grid: bool = True) -> Axes:
    """Return the calm axes of a figure that has only these."""
    return calm(figure.subplots(), look, grid=grid)


def calm(axes: Axes, look: Look, *, grid: bool = True) -> Axes:
    """Return the axes in the report's style."""
    axes.set_facecolor(look.background)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(look.faint)
    axes.tick_params(which="both", colors=look.ink, labelsize=9, color=look.faint)
    axes.xaxis.label.set_color(look.ink)
    axes.yaxis.label.set_color(look.ink)
    if grid:
        axes.grid(visible=True, axis="y", color=look.faint, linewidth=0.6)
        axes.set_axisbelow(True)
    return axes


def mark_findings(axes: Axes, summary: Summary, look: Look) -> None:
    """Draw a line at the steps of errors and warnings, with their numbers in the report."""
    colors: dict[int, str] = {}
    numbers: dict[int, list[int]] = {}
    for told in summary.of(Severity.ERROR, Severity.WARNING):
        step = told.finding.where.step
        numbers.setdefault(step, []).append(told.number)
        colors.setdefault(step, look.error if told.finding.severity is Severity.ERROR else look.warning)
    for step, color in colors.items():
        axes.axvline(step, color=color, linewidth=1.0, linestyle=(0, (3, 2)), zorder=1.5)
    left, right = axes.get_xlim()
    for step, held in together(numbers, (right - left) * _LABEL_INCHES / look.width).items():
        label = ",".join(map(str, held[:_NUMBERS])) + ("…" if len(held) > _NUMBERS else "")
        axes.annotate(
            label, (step, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 2), textcoords="offset points",
            color=colors[step], fontsize=8, ha="center", va="bottom", annotation_clip=False,
        )  # fmt: skip


def together(numbers: Mapping[int, Sequence[int]], least: float) -> dict[int, list[int]]:
    """Return the numbers to print at which step, so that labels lie at least ``least`` steps apart.

    The gravest, which has the lowest number, keeps its own step; its neighbours join it.

    Example:
        >>> together({4: [2], 6: [1], 24: [3]}, least=5)
        {6: [1, 2], 24: [3]}
    """
    kept: dict[int, list[int]] = {}
    for step in sorted(numbers, key=lambda each: min(numbers[each])):
        nearest = min(kept, key=lambda each: abs(each - step), default=step)
        kept.setdefault(nearest if abs(nearest - step) < least else step, []).extend(numbers[step])
    return {step: sorted(held) for step, held in kept.items()}
