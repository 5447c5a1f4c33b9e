"""Which checkpoints the run left, why each was kept, and where they lie on the course of what they are ranked by."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas

from lightning_debugkit.core.name_lists import plural
from lightning_debugkit.report.curves import Curve, curve_figure, curves
from lightning_debugkit.report.figures import mark_findings
from lightning_debugkit.report.number_formats import as_int, as_list, as_mapping, as_number, duration, number, phrase
from lightning_debugkit.report.palette import PALETTE
from lightning_debugkit.report.parts import Cell, Drawing, Paragraph, Section, Table, table_of
from lightning_debugkit.report.summary import Summary

_MOST = 40
_METRICS = 4
_MEGA = 1e6

File = Mapping[str, Any]


def _parts(summary: Summary, _folder: Path) -> Iterator[Paragraph | Table | Drawing]:
    saved = [as_mapping(point.value) for point in summary.points("checkpoint")]
    failed = summary.points("checkpoint-failed")
    ranked = curves(summary.points("monitor"))
    files = left(summary)
    if not (saved or failed or files):
        return
    yield Paragraph(_cost(saved, len(failed)))
    for count, curve in enumerate(ranked[:_METRICS]):
        title = f"{curve.label} and the checkpoints that were kept"
        yield Drawing(
            f"checkpoints-{count}", title, _alt(curve, files), partial(_draw, curve, files, summary),
            "Rings are files that were kept; ticks at the foot are files kept without a value of it.",
        )  # fmt: skip
    if files:
        yield _table(files, [curve.label for curve in ranked])


def left(summary: Summary) -> list[File]:
    """Return the files that were there at the end; of a run that was killed, those saved and not deleted."""
    listed: list[File] = [event for event in summary.artifacts if event.get("name") == "checkpoint"]
    if listed:
        return listed
    there: dict[str, File] = {}
    for point in summary.points("checkpoint"):
        value = as_mapping(point.value)
        there[str(value.get("file"))] = value
    for point in summary.points("checkpoint-dropped"):
        there.pop(str(point.value), None)
    return list(there.values())


def _cost(saved: list[File], failures: int) -> str:
    written = [seconds for file in saved if (seconds := as_number(file.get("seconds")))]
    if not written:
        told = "No checkpoint was written"
    else:
        told = f"{plural(len(written), 'checkpoint')} written in {duration(sum(written))}"
        told += f", {duration(statistics.median(written))} each" if len(written) > 1 else ""
    return told + (f"; {plural(failures, 'save')} failed." if failures else ".")


def _table(files: list[File], metrics: list[str]) -> Table:
    header = ("file", "step", "epoch", *metrics[:_METRICS], "MB", "kept because", "sound")
    caption = f"The last {_MOST} of {len(files)} checkpoints" if len(files) > _MOST else "Checkpoints"
    return table_of(caption, header, tuple(_row(file, metrics[:_METRICS]) for file in files[-_MOST:]))


def _row(file: File, metrics: list[str]) -> tuple[Cell | str, ...]:
    scores = as_mapping(file.get("metrics"))
    values = [as_number(scores.get(metric)) for metric in metrics]
    fault = file.get("fault")
    return (
        Cell(str(file.get("file")), is_code=True),
        str(as_int(file.get("step"))),
        str(as_int(file.get("epoch"))),
        *("" if value is None else number(value) for value in values),
        number((as_number(file.get("bytes")) or 0.0) / _MEGA),
        "; ".join(map(str, as_list(file.get("reasons")))),
        Cell("not looked at" if fault is None else phrase(fault) if fault else "yes", is_marked=bool(fault)),
    )


def _alt(curve: Curve, files: list[File]) -> str:
    said = f"{curve.label} at {plural(curve.values.size, 'evaluation')}{curve.finite_ends}"
    steps = ", ".join(str(as_int(file.get("step"))) for file in files[:8])
    return f"{said}; files kept of steps {steps or 'none'}{' and more' if files[8:] else ''}."


def _draw(curve: Curve, files: list[File], summary: Summary) -> Canvas:
    figure = curve_figure([curve], "step", curve.label, height=2.4)
    [axes] = figure.axes
    ringed: list[tuple[int, float]] = []
    feet: list[int] = []
    for file in files:
        value = as_number(as_mapping(file.get("metrics")).get(curve.label))
        step = as_int(file.get("step"))
        if value is None or not np.isfinite(value):
            feet.append(step)
        else:
            ringed.append((step, value))
    color = PALETTE.series[1]
    axes.scatter(
        [step for step, _ in ringed], [value for _, value in ringed],
        s=55, facecolors="none", edgecolors=color, linewidths=1.6, zorder=3,
    )  # fmt: skip
    axes.scatter(feet, [0.02] * len(feet), marker="|", s=60, color=color, transform=axes.get_xaxis_transform())
    # Files of the fit that was resumed lie before the first value of this one.
    left_edge, right_edge = axes.get_xlim()
    places = [left_edge, right_edge, *feet, *(step for step, _ in ringed)]
    axes.set_xlim(min(places), max(places))
    mark_findings(axes, summary)
    return figure


SECTION = Section("Checkpoints", order=60, parts=_parts, key="checkpoints")
