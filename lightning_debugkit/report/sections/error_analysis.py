"""What the model confuses in validation, on which samples, and where its mistakes gather."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lightning_debugkit.core.finding import Finding
from lightning_debugkit.report.error_analysis.chapter import chapter, is_further
from lightning_debugkit.report.parts import Drawing, Part, Section
from lightning_debugkit.report.summary import Summary


def _claims(finding: Finding) -> bool:
    return not is_further(finding) and finding.evidence.get("stage", "validate") == "validate"


def _parts(summary: Summary, folder: Path) -> Iterator[Part | Drawing]:
    return chapter(summary, folder, "validate", "errors")


SECTION = Section("What the model confuses", order=16, parts=_parts, key="error-analysis", claims=_claims)
