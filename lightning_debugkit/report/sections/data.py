"""How much of the data was looked at in the first epoch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning_debugkit.report.parts import Paragraph, Section
from lightning_debugkit.report.summary import Summary
from lightning_debugkit.report.wording import as_list, as_mapping

_SHOWN = 20  # classes


def _parts(summary: Summary, _folder: Path) -> Iterator[Paragraph]:
    points = summary.measures.get("data-check", ())
    if points:
        value = as_mapping(points[-1].value)
        samples = as_mapping(value.get("samples", {}))
        told = " and ".join(f"{count} {split}" for split, count in samples.items() if count)
        yield Paragraph(f"Looked at as they flowed by: {told or 'no'} samples, and the labels of the first epoch.")
        if kept := as_mapping(value.get("class_mapping")):
            yield Paragraph(_of_subset(as_list(kept.get("labels")), as_list(kept.get("names"))))


def _of_subset(labels: list[Any], names: list[Any]) -> str:
    """Return which classes a `ClassSubset` keeps, the first of many."""
    rows = [f"{old} ({name})" if str(old) != name else str(old) for old, name in zip(labels, names, strict=False)]
    first = f"class 0 is {rows[0]} of the whole dataset"
    others = [f"{new} is {row}" for new, row in enumerate(rows[1:_SHOWN], 1)]
    told = ", ".join([first, *others, *["..."][: len(rows) > _SHOWN]])
    return f"A part of the dataset's classes is used: {told}."


SECTION = Section("The data", order=16, parts=_parts, key="data")
