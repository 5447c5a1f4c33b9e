"""How the loss went."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_debugkit.core.finding import Finding, Severity
from lightning_debugkit.report.curves import Curve, curve_figure, curves
from lightning_debugkit.report.parts import Drawing, Section
from lightning_debugkit.report.summary import Summary
from lightning_debugkit.report.wording import number, plural


def _claims(finding: Finding) -> bool:
    return "loss" in finding.rule.split("-")


def _parts(summary: Summary, _folder: Path) -> Iterator[Drawing]:
    found = curves(summary.measures.get("loss", ()), summary.world_size)
    if found:
        yield Drawing(
            "loss",
            "Loss over steps",
            _alt(found),
            partial(curve_figure, found, "step", "loss", summary, 3.0),
            _caption(summary),
        )


def _caption(summary: Summary) -> str:
    return "Dashed lines are the numbered findings above." if summary.of(Severity.ERROR, Severity.WARNING) else ""


def _alt(found: list[Curve]) -> str:
    values: NDArray[np.float64] = np.concatenate([curve.values for curve in found])
    finite = values[np.isfinite(values)]
    said = f"Loss at {plural(values.size, 'point')}"
    if finite.size:
        said += f", from {number(float(finite[0]))} to {number(float(finite[-1]))}"
    broken = values.size - finite.size
    return said + (f"; {broken} not finite." if broken else ".")


SECTION = Section("Loss", order=10, parts=_parts, claims=_claims, is_open=True)
