"""What the user's own program logged, each metric over the steps of the run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from lightning_debugkit.report.curves import Curve, curve_figure, curves
from lightning_debugkit.report.number_formats import cut, number
from lightning_debugkit.report.parts import Details, Drawing, Paragraph, Section, Table, table_of
from lightning_debugkit.report.summary import Summary

_STAGE = re.compile(r"(?:^|(?<=[/_.\- ]))(?:train|training|val|valid|validation|dev|test)(?:[/_.\- ]|$)", re.IGNORECASE)
_OPEN, _MOST, _NAMED = 2, 6, 6
_MEANING = (
    "As self.log keeps them: what training_step logs is the value of one batch, unless with on_epoch=True; "
    "what validation_step logs is the mean over the validation."
)
_MEANS = ("val", "dev", "tes")  # stages whose values are means, as anyone expects
_AS_FILE = re.compile(r"\W+")


def is_validation_loss(name: str) -> bool:
    """Tell whether a logged name is that of a validation loss.

    >>> [is_validation_loss(name) for name in ("val/loss", "valid_loss_epoch", "train_loss", "val_acc")]
    [True, True, False, False]
    """
    return "loss" in name.lower() and _stage(name) in ("val", "dev")


def _stage(name: str) -> str:
    """Return the first three letters of the stage that a name tells, empty if it tells none."""
    stage = _STAGE.search(name)
    return stage[0].lower()[:3] if stage else ""


def logged(summary: Summary) -> list[Curve]:
    """Return a curve for each name that was logged; where a value stayed as it was, it goes on to the last step."""
    points = [point for point in summary.points("logged") if point.rank == 0]
    last = max((point.step for point in points), default=0)
    return [
        replace(curve, steps=np.append(curve.steps, last), values=np.append(curve.values, curve.values[-1]))
        if curve.steps.size > 1 and curve.steps[-1] < last
        else curve
        for curve in curves(points)
    ]


def _parts(summary: Summary, _folder: Path) -> Iterator[Paragraph | Table | Details | Drawing]:
    everything = logged(summary)
    found = [curve for curve in everything if not _is_drawn(curve.label)]
    if not found:
        return
    named = [curve for curve in everything if not _is_drawn(curve.label) or is_validation_loss(curve.label)]
    last = ", ".join(f"{cut(curve.label, 40)} {number(float(curve.values[-1]))}" for curve in named[:_NAMED])
    yield Paragraph(f"Last values: {last}{f' and {len(named) - _NAMED} more' if named[_NAMED:] else ''}.")
    if any(_stage(curve.label) not in _MEANS for curve in found):
        yield Paragraph(_MEANING)
    figures = [_drawing(name, group) for name, group in _groups(found) if max(c.steps.size for c in group) > 1]
    yield from figures[:_OPEN]
    rest: tuple[Drawing | Table, ...] = (*figures[_OPEN:_MOST], *([_table(found)] if found[1:] else []))
    if rest:
        yield Details("All that was logged", rest)


def _is_drawn(name: str) -> bool:
    """Tell whether the figure of the loss has it, or its values one by one."""
    return (
        "loss" in name.lower() and _STAGE.sub("", name).removesuffix("_epoch").removesuffix("_step").lower() == "loss"
    )


def _groups(found: Sequence[Curve]) -> list[tuple[str, list[Curve]]]:
    """Return the curves of one metric together, those of training first, as in the figure of the loss."""
    held: dict[str, list[Curve]] = {}
    for curve in sorted(found, key=lambda curve: _stage(curve.label) in _MEANS):
        held.setdefault(_STAGE.sub("", curve.label).removesuffix("_epoch").strip("/_.- ") or curve.label, []).append(
            curve
        )
    return list(held.items())


def _drawing(name: str, group: Sequence[Curve]) -> Drawing:
    stem = f"logged-{_AS_FILE.sub('-', name)}"
    name = group[0].label if len(group) == 1 else name
    return Drawing(
        stem,
        name,
        f"{'; '.join(f'{curve.label} {curve.ends}' for curve in group)}.",
        partial(curve_figure, group, "step", cut(name, 28), None, 2.2),
    )


def _table(found: Sequence[Curve]) -> Table:
    rows = tuple(
        (curve.label, *(number(float(value)) for value in _told(curve)), str(curve.steps.size)) for curve in found
    )
    return table_of("Logged values", ("name", "first", "lowest", "highest", "last", "points"), rows)


def _told(curve: Curve) -> tuple[float, float, float, float]:
    values = curve.values
    return values[0], values.min(), values.max(), values[-1]


SECTION = Section("Logged metrics", order=12, parts=_parts, is_open=True)
