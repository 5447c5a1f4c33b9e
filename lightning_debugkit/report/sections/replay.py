"""How to run the failing step again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from lightning_debugkit.report.number_formats import as_int
from lightning_debugkit.report.parts import Code, Paragraph, Section
from lightning_debugkit.report.summary import Summary


def _parts(summary: Summary, folder: Path) -> Iterator[Code | Paragraph]:
    for event in summary.artifacts:
        path = event.get("path")
        if event.get("name") != "bundle" or not isinstance(path, str):
            continue
        yield Code(
            f"lightning-debugkit replay {shlex.quote(path)} --trust-code",
            before=f"The batch, weights and random state of step {as_int(event.get('step'))} were kept. "
            "In the run folder, where this report lies:",
        )
        if note := event.get("note"):
            yield Paragraph(f"Left out: {note}.")
        if not (folder / path).exists():
            yield Paragraph(f"{path} is no longer in the run folder.", is_problem=True)


SECTION = Section("Run the failing step again", order=80, parts=_parts, is_open=True)
