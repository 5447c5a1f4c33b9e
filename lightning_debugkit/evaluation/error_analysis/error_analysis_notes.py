"""How the numbers of an analysis are to be read: what was left out, what is approximate, what could not be known."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lightning_debugkit.evaluation.error_analysis.collected_answers import CollectedAnswers
from lightning_debugkit.evaluation.error_analysis.task import Task
from lightning_debugkit.stats.label_issues import LabelIssues
from lightning_debugkit.stats.slice_search import has_trees

_ANSWERS = {
    "labels": "An answer is a yes or no to one label of one sample; a label that is missed is paired with one that is "
    "given in its place.",
    "boxes": "An answer is a box of the target, or a predicted one with no match: boxes match from an overlap of 0.5, "
    "predictions count from a score of 0.5. The loss of an image is the number of its wrong boxes, predicted ones by "
    "their score.",
    "pixels": "An answer is a pixel; the pixels of an image go together, and intervals are drawn over images.",
    "tokens": "An answer is a token; the tokens of a sample go together, and intervals are drawn over samples.",
}

UNFOLLOWED = (
    "The step weighs the losses of single answers in a way that could not be followed, and their mean is not its loss: "
    "which answers count is not known. Return them from the step, with -100 as the target of those that do not count."
)


def error_analysis_notes(found: CollectedAnswers, issues: LabelIssues | None) -> Iterator[str]:
    """Yield what a reader has to know."""
    form, totals, confusion = found.form, found.totals, found.confusion
    yield from _on_the_form(form)
    if totals.broken:
        have = "samples have" if totals.broken > 1 else "sample has"
        yield f"{totals.broken:,} {have} scores that are not finite, and no part in the counts."
    if form.unit == "samples" and form.scores != "classes" and (out := found.calibration.broken):
        yield f"The confidence of {out:,} samples is no number from 0 to 1: they are left out of the calibration."
    if totals.outside:
        last = f" from 0 to {form.classes - 1}" if form.classes else ""
        yield f"{totals.outside:,} targets are no class{last}: they are left out of all counts."
    if found.none is None and totals.answers and np.count_nonzero(confusion.support) == 1:
        name = int(np.flatnonzero(confusion.support)[0])
        yield f"All targets are of one class, {name}: the numbers tell nothing of the others."
    rows = len(found.table["index"])
    if rows < totals.samples:
        yield (
            f"The first {rows:,} of {totals.samples:,} samples are remembered one by one: label issues, weak slices "
            "and the table of mistakes are of them."
        )
    if rows and (found.table["index"] < 0).any():
        yield "Dataset indices are not known: samples cannot be named or drawn. Put an index into the batch."
    if rows and not has_trees() and any(column.dtype.kind == "f" for column in found.columns.values()):
        yield (
            "Numbers are searched for weak slices range by range only: the tree that puts ranges together needs "
            "scikit-learn (pip install scikit-learn)."
        )
    if issues is not None and not issues.is_exact:
        yield f"Label issues are approximate: of {issues.uncertain:,} samples more than three classes matter."


def _on_the_form(form: Task) -> Iterator[str]:
    if form.unit in _ANSWERS:
        yield _ANSWERS[form.unit]
    if form.soft:
        yield "Targets are shares of classes: the largest counts as the class, the loss is that of all shares."
    if form.rounded:
        yield "Targets are shares of a yes: above 0.5 counts as yes, and the loss is that of the yes or no."
    if form.scores == "classes" and form.task != "detection":
        yield "Predictions are classes without scores: there are no losses, label issues or calibration."
