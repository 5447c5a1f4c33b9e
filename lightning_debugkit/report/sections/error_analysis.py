"""What the model confuses, on which samples, and where its mistakes gather: in validation, in the test, and further."""

from __future__ import annotations

from functools import partial

from lightning_debugkit.core.finding import Finding
from lightning_debugkit.report.error_analysis.chapter import chapter, further_chapters, is_further
from lightning_debugkit.report.parts import Section


def _is_of(stage: str, finding: Finding) -> bool:
    return not is_further(finding) and finding.evidence.get("stage", "validate") == stage


SECTIONS = (
    Section(
        "What the model confuses",
        order=16,
        parts=partial(chapter, stage="validate", stem="errors"),
        key="error-analysis",
        claims=partial(_is_of, "validate"),
    ),
    Section(
        "What it confuses in the test",
        order=17,
        parts=partial(chapter, stage="test", stem="errors-test"),
        key="error-analysis",
        claims=partial(_is_of, "test"),
    ),
    Section("Further analyses of errors", order=18, parts=further_chapters, key="error-analysis", claims=is_further),
)
