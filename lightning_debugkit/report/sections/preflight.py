"""What was looked at in the program itself, what was left out and why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lightning_debugkit.report.parts import Cell, Paragraph, Section, Table
from lightning_debugkit.report.summary import Summary
from lightning_debugkit.report.wording import as_mapping


def _parts(summary: Summary, _folder: Path) -> Iterator[Paragraph | Table]:
    points = summary.measures.get("preflight", ())
    if not points:
        return
    value = as_mapping(points[-1].value)
    losses = as_mapping(value.get("losses", {}))
    if losses:
        rows = tuple((Cell(str(source), is_code=True), Cell(str(name))) for source, name in losses.items())
        yield Table("Losses that were listened to in the first steps", ("line", "loss"), rows)
    for note in as_mapping(value.get("notes", {})).values():
        yield Paragraph(f"{str(note)[:1].upper()}{str(note)[1:]}")
    left_out = as_mapping(value.get("left_out", {}))
    if left_out:
        yield Paragraph(f"Left out: {'; '.join(f'{name} ({why})' for name, why in left_out.items())}.")


SECTION = Section("The program itself", order=15, parts=_parts, key="preflight")
