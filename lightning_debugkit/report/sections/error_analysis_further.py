"""What further analyses of errors found: of later validations and tests, and of other questions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lightning_debugkit.report.error_analysis.chapter import further_chapters, is_further
from lightning_debugkit.report.parts import Drawing, Part, Section
from lightning_debugkit.report.summary import Summary


def _parts(summary: Summary, folder: Path) -> Iterator[Part | Drawing]:
    return further_chapters(summary, folder)


SECTION = Section("Further analyses of errors", order=18, parts=_parts, key="error-analysis", claims=is_further)
