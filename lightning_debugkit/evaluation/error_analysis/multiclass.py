"""Answers of a classifier that gives each sample one class."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_debugkit.evaluation.error_analysis.batch_scores import NONE, BatchScores, blank_scores
from lightning_debugkit.evaluation.error_analysis.task import MOST_CLASSES, Task, at_most_one
from lightning_debugkit.evaluation.predictions.readings import IGNORED
from lightning_debugkit.stats.sample_records import sample_record


def score_multiclass(form: Task, predictions: Tensor, target: Tensor, ignore: int | None) -> BatchScores:
    """Return the answers of a batch of ``multiclass`` or ``binary``.

    Shapes:
        predictions: (n, classes), or (n,) scores of a yes or classes; target: (n,), or (n, classes) shares.
    """
    if form.scores == "classes":
        return _of_given_classes(predictions.long(), target.long(), ignore)
    scores = both(form, predictions) if form.channel is None else predictions.detach()
    label = target.argmax(1) if form.soft else target.long()
    valid, outside = in_range(label, scores.shape[1], ignore)
    label = torch.where(valid, label, NONE)
    found = sample_record(scores, label, is_logits=form.scores == "logits")
    broken = valid & ~found.confidence.isfinite()
    counts = valid & ~broken
    return BatchScores(
        target=torch.where(counts, label, NONE),
        predicted=torch.where(counts, found.predicted, NONE),
        wrong=counts & (found.predicted != label),
        size=counts,
        loss=_of_shares(form, scores, target) if form.soft else found.loss,
        confidence=at_most_one(found.confidence),
        given=found.probability,
        broken=broken,
        outside=outside,
        seen=found,
    )


def both(form: Task, values: Tensor) -> Tensor:
    """Return scores of no and yes, from those of a yes alone; classes come second."""
    values = values.detach().float()
    values = values if form.scores == "logits" else at_most_one(values)
    return torch.stack([torch.zeros_like(values) if form.scores == "logits" else 1 - values, values], 1)


def _of_shares(form: Task, scores: Tensor, shares: Tensor) -> Tensor:
    """Return the cross entropy with targets that are shares of classes."""
    scores = scores.float()
    logs = scores.log_softmax(1) if form.scores == "logits" else scores.log()
    # A share of nothing times a logarithm of minus infinity is nothing.
    return -(shares.float() * logs.clamp(min=torch.finfo(torch.float32).min)).sum(1)


def in_range(label: Tensor, classes: int, ignore: int | None) -> tuple[Tensor, Tensor]:
    """Return which labels are classes, and which are neither classes nor to be ignored."""
    inside = (label >= 0) & (label < classes)
    ignored = label == IGNORED
    if ignore is not None and ignore != IGNORED:
        ignored = ignored | (label == ignore)
    return inside & ~ignored, ~(inside | ignored)


def _of_given_classes(predicted: Tensor, label: Tensor, ignore: int | None) -> BatchScores:
    """Classes without scores: there is no loss, and nothing is known of how sure the model was."""
    valid, outside = in_range(label, MOST_CLASSES, ignore)
    counts = valid & (predicted >= 0) & (predicted < MOST_CLASSES)
    nothing = blank_scores(label)
    return BatchScores(
        target=torch.where(counts, label, NONE),
        predicted=torch.where(counts, predicted, NONE),
        wrong=counts & (predicted != label),
        size=counts,
        loss=nothing,
        confidence=nothing,
        given=nothing,
        broken=torch.zeros_like(valid),
        outside=outside,
    )
