"""The report for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning_debugkit.core.journal import strict
from lightning_debugkit.report.parts import Chapter
from lightning_debugkit.report.summary import Summary

VERSION = 1


def as_json(summary: Summary, chapters: Sequence[Chapter] = ()) -> dict[str, Any]:
    """Return the report as plain JSON types; findings are not folded, non-finite numbers are strings."""
    figures = [figure for chapter in chapters for figure in chapter.figures]
    report: dict[str, Any] = strict(
        {
            "v": VERSION,
            "verdict": summary.verdict,
            "start_here": summary.start_here,
            "status": summary.status,
            "steps": summary.steps,
            "seconds": summary.seconds,
            "reason": summary.reason,
            "exception": summary.exception or None,
            "findings": summary.events,
            "run": summary.run,
            "figures": [{"name": figure.name, "title": figure.title, "path": figure.path} for figure in figures],
            "artifacts": summary.artifacts,
            "remarks": summary.remarks,
        }
    )
    return report
