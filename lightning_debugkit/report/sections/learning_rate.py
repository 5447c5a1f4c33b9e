"""What learning rate the optimizers used."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure as Canvas

from lightning_debugkit.finding import Finding
from lightning_debugkit.report.curves import Curve, curves, draw_curves
from lightning_debugkit.report.drawing import Look, axes_of, blank, mark_findings
from lightning_debugkit.report.parts import Drawing, Paragraph, Section
from lightning_debugkit.report.summary import Summary
from lightning_debugkit.report.wording import number


def _claims(finding: Finding) -> bool:
    return finding.rule.startswith(("learning-rate", "update-ratio"))


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
    yield Drawing("learning-rate", "Learning rate over steps", _alt(found), partial(_draw, found, summary))


def _constant(curve: Curve) -> str:
    return f"{number(float(curve.values[0]))}" + (f" ({curve.label})" if curve.label else "")


def _alt(found: list[Curve]) -> str:
    each = (
        f"{curve.label or 'learning rate'} from {number(float(curve.values[0]))} to {number(float(curve.values[-1]))}"
        for curve in found
    )
    return f"Learning rate over steps: {'; '.join(each)}."


def _draw(found: list[Curve], summary: Summary, look: Look) -> Canvas:
    figure = blank(look, 2.2)
    axes = axes_of(figure, look)
    draw_curves(axes, found, look)
    axes.set_xlabel("step", fontsize=9)
    axes.set_ylabel("learning rate", fontsize=9)
    mark_findings(axes, summary, look)
    return figure


SECTION = Section("Learning rate", order=30, parts=_parts, claims=_claims)
