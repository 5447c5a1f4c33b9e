"""What was looked at in the program itself, what was left out and why, and how a few samples were learned by heart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas

from lightning_debugkit.report.curves import Curve, curve_figure
from lightning_debugkit.report.number_formats import as_int, as_list, as_mapping, as_number, number
from lightning_debugkit.report.palette import PALETTE
from lightning_debugkit.report.parts import Cell, Drawing, Paragraph, Section, Table
from lightning_debugkit.report.summary import Summary


def _parts(summary: Summary, _folder: Path) -> Iterator[Paragraph | Table | Drawing]:
    points = summary.measures.get("preflight", ())
    if not points:
        return
    value = as_mapping(points[-1].value)
    losses = as_mapping(value.get("losses", {}))
    if losses:
        named = ", ".join(dict.fromkeys(map(str, losses.values())))
        yield Paragraph(f"Losses of the first steps: {named}.")
        rows = tuple((Cell(str(source), is_code=True), Cell(str(name))) for source, name in losses.items())
        yield Table("Where they stand", ("line", "loss"), rows)
    for note in as_mapping(value.get("notes", {})).values():
        yield Paragraph(f"{str(note)[:1].upper()}{str(note)[1:]}")
    yield from _by_heart(as_mapping(value.get("by_heart")))
    left_out = as_mapping(value.get("left_out", {}))
    if left_out:
        yield Paragraph(f"Left out: {'; '.join(f'{name} ({why})' for name, why in left_out.items())}.")


def _by_heart(held: Mapping[str, Any]) -> Iterator[Drawing]:
    """Yield how a few samples were learned by heart."""
    found = [
        Curve(str(name), np.arange(len(losses)), np.array([as_number(loss) for loss in losses], dtype=np.float64))
        for name, losses in ((name, as_list(each)) for name, each in as_mapping(held.get("curves")).items())
        if losses
    ]
    reach = as_mapping(held.get("reach"))
    constant, least = as_number(reach.get("constant")), as_number(reach.get("least"))
    if not found or constant is None or least is None:
        return
    ends = "; ".join(f"{curve.label}: from {number(curve.values[0])} to {number(curve.values[-1])}" for curve in found)
    yield Drawing(
        "by-heart",
        f"{as_int(held.get('samples'))} samples learned by heart",
        f"{ends}. One answer for all samples gives {number(constant)}, the right ones {number(least)}.",
        partial(_draw, found, constant, least),
        "Dashed: one answer for all of them. Dotted: the right answers. Below the middle of the two they count as "
        "learned, and the rest is spared.",
    )


def _draw(found: list[Curve], constant: float, least: float) -> Canvas:
    figure = curve_figure(found, "step", "loss")
    for level, dashes in ((constant, (4, 2)), (least, (1, 2))):
        figure.axes[0].axhline(level, color=PALETTE.ink, linewidth=0.8, linestyle=(0, dashes))
    return figure


SECTION = Section("The program itself", order=15, parts=_parts, key="preflight")
