"""From predictions and targets of a batch to its answers, by task."""

from __future__ import annotations

from lightning_debugkit.evaluation.error_analysis.batch_scores import BatchScores
from lightning_debugkit.evaluation.error_analysis.detection import score_detection
from lightning_debugkit.evaluation.error_analysis.multiclass import score_multiclass
from lightning_debugkit.evaluation.error_analysis.multilabel import score_multilabel
from lightning_debugkit.evaluation.error_analysis.segmentation import score_segmentation
from lightning_debugkit.evaluation.error_analysis.task import Task
from lightning_debugkit.evaluation.predictions.readings import Reading


def score_batch(form: Task, found: Reading) -> BatchScores:
    """Return the answers of a batch."""
    if form.task == "detection":
        return score_detection(found.predictions, found.target)
    target = found.target.to(found.predictions.device)
    look = {"multilabel": score_multilabel, "segmentation": score_segmentation}.get(form.task, score_multiclass)
    return look(form, found.predictions, target, found.ignore_index)
