"""What learning rate the optimizers used."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lightning_debugkit.report.curves import Curve, curve_figure, curves, of_first_rank
from lightning_debugkit.report.number_formats import number
from lightning_debugkit.report.parts import Drawing, Paragraph, Section
from lightning_debugkit.report.summary import Summary


def _parts(summary: Summary, _folder: Path) -> Iterator[Drawing | Paragraph]:
    found = curves(of_first_rank(summary.points("learning-rate")))
    if not found:
        return
    if all(curve.is_constant for curve in found):
        yield Paragraph(f"Constant: {', '.join(map(_constant, found))}.")
        return
    draw = partial(curve_figure, found, "step", "learning rate", summary, 2.2)
    yield Drawing("learning-rate", "Learning rate over steps", _alt(found), draw)


def _constant(curve: Curve) -> str:
    return f"{number(float(curve.values[0]))}" + (f" ({curve.label})" if curve.label else "")


def _alt(found: list[Curve]) -> str:
    each = (f"{curve.label or 'learning rate'} {curve.ends}" for curve in found)
    return f"Learning rate over steps: {'; '.join(each)}."


SECTION = Section("Learning rate", order=30, parts=_parts, key="learning-rate")
