"""How much of the data was looked at in the first epoch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lightning_debugkit.report.parts import Paragraph, Section
from lightning_debugkit.report.summary import Summary
from lightning_debugkit.report.wording import as_mapping


def _parts(summary: Summary, _folder: Path) -> Iterator[Paragraph]:
    points = summary.measures.get("data-check", ())
    if points:
        samples = as_mapping(as_mapping(points[-1].value).get("samples", {}))
        told = " and ".join(f"{count} {split}" for split, count in samples.items() if count)
        yield Paragraph(f"Looked at as they flowed by: {told or 'no'} samples, and the labels of the first epoch.")


SECTION = Section("The data", order=16, parts=_parts, key="data")
