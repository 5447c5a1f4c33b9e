"""What the model confuses in validation, on which samples, and where its mistakes gather."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lightning_debugkit.core.finding import Finding
from lightning_debugkit.report.error_analysis.chapter import RULES, chapter, is_further
from lightning_debugkit.report.parts import Drawing, Part, Section
from lightning_debugkit.report.summary import Summary


def _claims(finding: Finding) -> bool:
    is_own = finding.rule in RULES and not is_further(finding)
    return is_own and finding.evidence.get("stage", "validate") == "validate"


def _parts(summary: Summary, folder: Path) -> Iterator[Part | Drawing]:
    return chapter(summary, folder, "validate", "errors")


SECTION = Section("What the model confuses", order=16, parts=_parts, claims=_claims)
