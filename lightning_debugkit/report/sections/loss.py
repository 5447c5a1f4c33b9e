"""How the loss went."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from lightning_debugkit.core.finding import Severity
from lightning_debugkit.core.name_lists import plural
from lightning_debugkit.report.curves import Curve, curve_figure, curves
from lightning_debugkit.report.parts import Drawing, Section
from lightning_debugkit.report.sections.logged_metrics import is_validation_loss, logged
from lightning_debugkit.report.summary import Summary


def _parts(summary: Summary, _folder: Path) -> Iterator[Drawing]:
    found = curves(summary.points("loss"), summary.world_size)
    validation = [curve for curve in logged(summary) if is_validation_loss(curve.label)]
    if validation and len(found) == 1:
        found = [replace(found[0], label="loss of a step")]
    found += validation
    if found:
        yield Drawing(
            "loss",
            "Loss over steps",
            f"{'; '.join(map(_course, found))}.",
            partial(curve_figure, found, "step", "loss", summary, 3.0),
            "Dashed lines are the numbered findings above." if summary.of(Severity.ERROR, Severity.WARNING) else "",
        )


def _course(curve: Curve) -> str:
    said = f"{curve.label or 'Loss'} at {plural(curve.values.size, 'point')}{curve.finite_ends}"
    broken = int((~np.isfinite(curve.values)).sum())
    return said + (f", {broken} not finite" if broken else "")


SECTION = Section("Loss", order=10, parts=_parts, key="loss", is_open=True)
