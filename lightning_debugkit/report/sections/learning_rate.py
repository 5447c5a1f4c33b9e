"""What learning rate the optimizers used."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lightning_debugkit.report.curves import Curve, curve_figure, curves
from lightning_debugkit.report.number_formats import number
from lightning_debugkit.report.parts import Drawing, Paragraph, Section
from lightning_debugkit.report.summary import Summary


def _parts(summary: Summary, _folder: Path) -> Iterator[Drawing | Paragraph]:
    # Ranks share one schedule: the first is enough.
    points = summary.measures.get("learning-rate", ())
    first_rank = min((point.rank for point in points), default=0)
    found = curves([point for point in points if point.rank == first_rank])
    if not found:
        return
    if all((curve.values == curve.values[0]).all() for curve in found):
        yield Paragraph(f"Constant: {', '.join(map(_constant, found))}.")
        return
    draw = partial(curve_figure, found, "step", "learning rate", summary, 2.2)
    yield Drawing("learning-rate", "Learning rate over steps", _alt(found), draw)


def _constant(curve: Curve) -> str:
    return f"{number(float(curve.values[0]))}" + (f" ({curve.label})" if curve.label else "")


def _alt(found: list[Curve]) -> str:
    each = (
        f"{curve.label or 'learning rate'} from {number(float(curve.values[0]))} to {number(float(curve.values[-1]))}"
        for curve in found
    )
    return f"Learning rate over steps: {'; '.join(each)}."


SECTION = Section("Learning rate", order=30, parts=_parts, key="learning-rate")
