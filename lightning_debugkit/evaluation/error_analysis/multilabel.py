"""Answers of a model that gives a sample any number of labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_debugkit.evaluation.error_analysis.batch_scores import NONE, BatchScores, blank_scores
from lightning_debugkit.evaluation.error_analysis.task import Task, at_most_one
from lightning_debugkit.evaluation.predictions.readings import IGNORED


def score_multilabel(form: Task, predictions: Tensor, target: Tensor, ignore: int | None) -> BatchScores:
    """Return the answers of a batch of ``multilabel``.

    A label that is missed and one that is given in its place are a confusion: those of a sample are paired by their
    scores, the nearest first. What is left over stands against class ``labels``, that of no label.

    Shapes:
        predictions: (n, labels); target: (n, labels) of 0, 1 and values to ignore.
    """
    values = predictions.detach().float()
    values = values if form.scores == "logits" else at_most_one(values)
    asked = (target == 0) | (target == 1)
    if ignore is not None:
        asked = asked & (target != ignore)
    broken = (asked & ~values.isfinite()).any(1)
    counts = asked & ~broken[:, None]
    cut = 0.0 if form.scores == "logits" else 0.5
    yes, has = (values > cut) & counts, (target == 1) & counts
    wrong = yes != has
    losses = torch.where(counts, _loss(form, values, has), 0.0)
    size = counts.sum(1)
    none = values.shape[1]
    worst = torch.where(wrong, losses.nan_to_num(0.0), -1.0).argmax(1, keepdim=True)
    missed = has.gather(1, worst)[:, 0]
    worst = torch.where(wrong.any(1), worst[:, 0], none)
    confidence = values.sigmoid() if form.scores == "logits" else values
    sure = torch.where(yes, confidence, 1 - confidence)
    known = counts & (form.scores != "classes")
    return BatchScores(
        target=torch.where(size > 0, torch.where(missed, worst, none), NONE),
        predicted=torch.where(size > 0, torch.where(missed, none, worst), NONE),
        wrong=wrong.sum(1),
        size=size,
        loss=losses.sum(1) / size.clamp(min=1) if form.scores != "classes" else blank_scores(target),
        confidence=blank_scores(target),
        given=blank_scores(target),
        broken=broken,
        outside=(~asked & (target != IGNORED) & (target != (IGNORED if ignore is None else ignore))).sum(1),
        pairs=_paired(yes, has, values, none),
        answers=(torch.where(known, sure, torch.nan).flatten(), (~wrong).flatten()),
    )


def _loss(form: Task, values: Tensor, has: Tensor) -> Tensor:
    if form.scores == "logits":
        return F.binary_cross_entropy_with_logits(values, has.float(), reduction="none")
    # As torch's own: a logarithm below -100 counts as -100.
    own = torch.where(has, values, 1 - values)
    return -own.log().clamp(min=-100)


def _paired(yes: Tensor, has: Tensor, values: Tensor, none: int) -> tuple[Tensor, Tensor]:
    """Return target and prediction of every label that is had or given."""
    labels = torch.arange(none, device=yes.device).expand_as(yes)
    right = torch.where(yes & has, labels, NONE)
    missed, targets = _ranked(has & ~yes, values, labels)
    extra, predictions = _ranked(yes & ~has, values, labels)
    none_here = torch.full_like(targets, none)
    found = missed | extra
    targets = torch.where(found, torch.where(missed, targets, none_here), NONE)
    predictions = torch.where(found, torch.where(extra, predictions, none_here), NONE)
    return torch.cat([right, targets], 1).flatten(), torch.cat([right, predictions], 1).flatten()


def _ranked(which: Tensor, values: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the labels of each sample with those chosen first, by falling score, and where there are such."""
    # A masked score of -inf must not come after labels that were not chosen.
    order = torch.where(which, values.clamp(min=torch.finfo().min), -torch.inf).argsort(
        stable=True, dim=1, descending=True
    )
    return which.gather(1, order), labels.gather(1, order)
