"""What was looked at in the program itself, what was left out and why, and how a few samples were learned by heart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas

from lightning_debugkit.core.name_lists import begun
from lightning_debugkit.report.curves import Curve, curve_figure
from lightning_debugkit.report.figures import axes_of, blank_figure, room
from lightning_debugkit.report.number_formats import as_int, as_list, as_mapping, as_number, number
from lightning_debugkit.report.palette import PALETTE
from lightning_debugkit.report.parts import Cell, Drawing, Paragraph, Section, Table, table_of
from lightning_debugkit.report.summary import Summary

_KNOWING_NOTHING = {"uniform": "all classes alike give", "constant": "one answer for the whole batch gives"}


def _parts(summary: Summary, _folder: Path) -> Iterator[Paragraph | Table | Drawing]:
    value = summary.last("preflight")
    losses = as_mapping(value.get("losses", {}))
    if losses:
        named = ", ".join(dict.fromkeys(map(str, losses.values())))
        yield Paragraph(f"Losses of the first steps: {named}.")
        rows = tuple((Cell(str(source), is_code=True), str(name)) for source, name in losses.items())
        yield table_of("The calls", ("line", "loss"), rows)
    for note in as_mapping(value.get("notes", {})).values():
        yield Paragraph(begun(str(note)))
    yield from _at_start(as_mapping(value.get("at_start")))
    yield from _by_heart(as_mapping(value.get("by_heart")))
    left_out = as_mapping(value.get("left_out", {}))
    if left_out:
        yield Paragraph(f"Left out: {'; '.join(f'{name} ({why})' for name, why in left_out.items())}.")


def _at_start(held: Mapping[str, Any]) -> Iterator[Drawing]:
    """Yield the first losses, and what they are for one who knows nothing of the inputs."""
    rows: dict[str, dict[str, float]] = {}
    for source, marks in held.items():
        known = {key: as_number(each) for key, each in as_mapping(marks).items()}
        rows[":".join(str(source).split(":")[:2])] = {key: each for key, each in known.items() if each is not None}
    rows = {name: marks for name, marks in rows.items() if "loss" in marks}
    if not rows:
        return
    told = "; ".join(
        ", ".join(
            [f"{name}: {number(marks['loss'])}"]
            + [f"{word} {number(marks[key])}" for key, word in _KNOWING_NOTHING.items() if key in marks]
        )
        for name, marks in rows.items()
    )
    yield Drawing(
        "first-losses",
        "First losses against what is expected",
        f"{told}.",
        partial(_draw_start, rows),
        "Dot: the first loss. Dashed: all classes alike, as untrained weights begin. Dotted: one answer for the whole "
        "batch, which knows how often each label or what mean target occurs.",
    )


def _draw_start(rows: Mapping[str, Mapping[str, float]]) -> Canvas:
    names = list(rows)
    figure = blank_figure(0.85 + 0.35 * len(names), left=room(names, 9) + 0.15)
    axes = axes_of(figure, grid=False)
    for at, marks in enumerate(rows.values()):
        for key, dashes in (("uniform", (4, 2)), ("constant", (1, 2))):
            if key in marks:
                axes.plot([marks[key]] * 2, [at - 0.35, at + 0.35], color=PALETTE.ink, linestyle=(0, dashes))
        axes.plot(marks["loss"], at, marker="o", markersize=6, color=PALETTE.series[0])
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.5)
    ends = [end for marks in rows.values() for end in marks.values()]
    axes.set_xlim(min(0.0, *ends) * 1.05, max(0.0, *ends) * 1.05 or 1.0)
    axes.set_xlabel("loss")
    return figure


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
    ends = "; ".join(f"{curve.label}: {curve.ends}" for curve in found)
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
