"""Answers of a model that gives each pixel or token of a sample one class."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_debugkit.evaluation.error_analysis.batch_scores import NONE, BatchScores, blank_scores
from lightning_debugkit.evaluation.error_analysis.multiclass import both, in_range
from lightning_debugkit.evaluation.error_analysis.task import MOST_CLASSES, Task, at_most_one


def score_segmentation(form: Task, predictions: Tensor, target: Tensor, ignore: int | None) -> BatchScores:
    """Return the answers of a batch of ``segmentation``.

    Shapes:
        predictions: (n, classes, ...), (n, ..., classes), or (n, ...) scores of a yes or classes; target: (n, ...), or
        (n, classes, ...) shares.
    """
    label = (target.argmax(1) if form.soft else target.long()).flatten(1)
    if form.scores == "classes":
        predicted = predictions.long().flatten(1)
        classes = MOST_CLASSES
        confidence = own = torch.full(label.shape, torch.nan, device=label.device)
    else:
        values = both(form, predictions) if form.channel is None else predictions.detach()
        values = values.movedim(form.channel or 1, 1).flatten(2)
        classes, logits = values.shape[1], form.scores == "logits"
        score, predicted = values.max(1)
        total = values.float().logsumexp(1) if logits else 0.0
        confidence = (score - total).exp() if logits else at_most_one(score)
        own = values.gather(1, label.clamp(0, classes - 1)[:, None])[:, 0].float()
        own = own - total if logits else own.log()
    valid, outside = in_range(label, classes, ignore)
    # Attention over nothing but padding gives NaN where nobody asks.
    broken = (valid & ~confidence.isfinite()).any(1) & (form.scores != "classes")
    counts = valid & ~broken[:, None] & (predicted >= 0) & (predicted < classes)
    wrong = counts & (predicted != label)
    size = counts.sum(1)
    losses = torch.where(counts, -own, 0.0)
    # The pixel to show for an image is the worst of those that are wrong.
    worst = torch.where(wrong, losses.nan_to_num(0.0), -1.0).argmax(1, keepdim=True)
    return BatchScores(
        target=torch.where(size > 0, label.gather(1, worst)[:, 0], NONE),
        predicted=torch.where(size > 0, predicted.gather(1, worst)[:, 0], NONE),
        wrong=wrong.sum(1),
        size=size,
        loss=losses.sum(1) / size.clamp(min=1),
        confidence=blank_scores(label),
        given=blank_scores(label),
        broken=broken,
        outside=outside.sum(1),
        pairs=(torch.where(counts, label, NONE).flatten(), torch.where(counts, predicted, NONE).flatten()),
        answers=(torch.where(counts, confidence, torch.nan).flatten(), (~wrong).flatten()),
    )
