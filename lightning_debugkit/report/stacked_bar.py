"""A bar that grows from the goal to the last error, part by part, over the errors with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from lightning_debugkit.core.name_lists import percent
from lightning_debugkit.report.figures import axes_of, blank_figure, legend_above, legend_height, room
from lightning_debugkit.report.number_formats import as_list, as_mapping, as_number, number
from lightning_debugkit.report.palette import PALETTE

_SPLITS = (("train", "training"), ("train_dev", "held-out training"), ("val", "validation"), ("test", "test"))
_BAR = 0.62
_COLORS = {"avoidable_bias": 0, "variance": 1, "distribution_shift": 2, "validation_overfitting": 3}


@dataclass(frozen=True)
class StackStep:
    """One part of the bar, from ``left`` to ``right``; backwards where things get better."""

    name: str
    left: float
    right: float

    @property
    def label(self) -> str:
        return self.name.replace("_", " ")


@dataclass(frozen=True)
class Stack:
    """What the figure draws."""

    metric: str
    is_rate: bool  # whether values are shares, to be written in percent
    start: float | None  # the goal, or the metric's best value; `None` if the bar starts at the first error
    is_goal: bool  # whether `start` is a stated goal
    parts: tuple[StackStep, ...]
    errors: tuple[tuple[str, float, float, float], ...]  # name, value, low and high of each error

    def text(self, value: float) -> str:
        """Return a value as it is written at the axis."""
        return percent(value) if self.is_rate else number(value)


def stack(held: Mapping[str, Any]) -> Stack | None:
    """Return the bar of an analysis, ``None`` if it has no finite parts."""
    errors = as_mapping(held.get("errors"))
    points = []
    for name, label in _SPLITS:
        found = as_mapping(errors.get(name))
        value, low, high = (as_number(found.get(key)) for key in ("value", "low", "high"))
        if value is not None and math.isfinite(value):
            bounded = low is not None and high is not None and math.isfinite(low) and math.isfinite(high)
            points.append((label, value, low if bounded else value, high if bounded else value))
    start = as_number(held.get("start"))
    ends = {"goal": start, **{name: as_number(as_mapping(errors.get(name)).get("value")) for name, _ in _SPLITS}}
    parts = []
    for row in map(as_mapping, as_list(held.get("rows"))):
        left, right = ends.get(str(row.get("from"))), ends.get(str(row.get("to")))
        if left is not None and right is not None and math.isfinite(left) and math.isfinite(right):
            parts.append(StackStep(str(row.get("name")), left, right))
    if not points or not parts:
        return None
    floats = tuple((label, float(v), float(low or 0.0), float(high or 0.0)) for label, v, low, high in points)
    is_rate, is_goal = held.get("is_rate") is True, as_number(held.get("goal")) is not None
    return Stack(str(held.get("metric", "error")), is_rate, start, is_goal, tuple(parts), floats)


def draw_stack(found: Stack) -> Canvas:
    """Draw the bar on top, each error below it."""
    count = len(found.errors)
    labels = ["goal", *(part.label for part in found.parts)]
    names = ["parts", *(label for label, *_ in found.errors)]
    top = 0.1 + legend_height(labels)
    figure = blank_figure(1.15 + 0.34 * count + top, left=room(names, 9) + 0.15, top=top)
    axes = axes_of(figure, grid=False)
    _bar(axes, found)
    for row, (_, value, low, high) in enumerate(found.errors, 1):
        axes.plot([low, high], [row, row], color=PALETTE.ink, linewidth=1.6, solid_capstyle="butt")
        axes.plot([value], [row], marker="o", markersize=5.5, color=PALETTE.ink)
        axes.annotate(
            found.text(value), (high, row), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8,
            color=PALETTE.ink,
        )  # fmt: skip
        axes.plot([value, value], [_BAR / 2, row], color=PALETTE.line, linewidth=0.8, zorder=0.5)
    axes.set_yticks(range(count + 1), names, fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(count + 0.6, -0.6)
    axes.xaxis.set_major_formatter(lambda value, _: found.text(value))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel(found.metric)
    axes.margins(x=0.16)
    legend_above(axes, labels)
    return figure


def _bar(axes: Axes, found: Stack) -> None:
    if found.start is not None and found.is_goal:
        base = 0.0 if found.is_rate or found.start > 0 else found.start
        axes.barh(0, found.start - base, left=base, height=_BAR, color=PALETTE.zero, label="goal")
    for part in found.parts:
        color = PALETTE.series[_COLORS.get(part.name, 4)]
        label = part.label
        if part.name == "avoidable_bias" and not found.is_goal:
            label = "avoidable bias, at most"
        is_back = part.right < part.left
        axes.barh(
            0, part.right - part.left, left=part.left, height=_BAR * (0.55 if is_back else 1.0), label=label,
            color=PALETTE.background if is_back else color, edgecolor=color if is_back else PALETTE.background,
            hatch="////" if is_back else None, linewidth=0.8,
        )  # fmt: skip
