"""What the model confuses in its test, on which samples, and where its mistakes gather."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lightning_debugkit.core.finding import Finding
from lightning_debugkit.report.error_analysis.chapter import chapter, is_further
from lightning_debugkit.report.parts import Drawing, Part, Section
from lightning_debugkit.report.summary import Summary


def _claims(finding: Finding) -> bool:
    return not is_further(finding) and finding.evidence.get("stage") == "test"


def _parts(summary: Summary, folder: Path) -> Iterator[Part | Drawing]:
    return chapter(summary, folder, "test", "errors-test")


SECTION = Section("What it confuses in the test", order=17, parts=_parts, key="error-analysis", claims=_claims)
