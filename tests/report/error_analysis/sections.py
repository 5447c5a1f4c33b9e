"""The section on mistakes of a run folder, and its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from report.error_analysis import mistakes

from lightning_debugkit.report import render
from lightning_debugkit.report.parts import Details


def report(folder: Path, held: object, stage: str = "validate") -> str:
    """Write an analysis and return the Markdown that is rendered from it."""
    render(mistakes.write(folder, held, stage))
    return (folder / "report.md").read_text()


def flat(listed: Any) -> Any:
    for part in listed:
        yield part
        if isinstance(part, Details):
            yield from flat(part.parts)


def few(**changed: Any) -> dict[str, Any]:
    """An analysis of three classes, of which the third is never predicted."""
    counts = np.array([[8, 2, 0], [1, 9, 0], [0, 4, 0]])
    return {**mistakes.of_matrix(counts, ["cat", "dog", "bird"]), **changed}
