"""From scores and targets to which samples are wrong, whatever form a classifier gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_debugkit.evaluation.predictions.readings import (
    IGNORED,
    both_readings,
    class_dimension,
    is_binary,
    is_rows,
    squeezed,
)

_PAIR = 2


class NoClasses(ValueError):
    """The targets are no classes, or do not go with the predictions; the message says what they are."""


@dataclass(frozen=True)
class Scored:
    """What was right and wrong in a batch; each a tensor with one entry a sample."""

    wrong: Tensor  # wrong answers of the sample
    size: Tensor  # answers it was asked for: 1, or the pixels, tokens or labels that count
    target: Tensor | None  # class of each sample, `None` where a sample has several
    predicted: Tensor | None  # class that it was taken for
    classes: int  # how many classes the scores tell apart, 0 if that is not known
    broken: Tensor  # samples whose scores are not finite


def scored(predictions: Any, target: Any, cut: float = 0.5, ignore_index: int | None = None) -> Scored:
    """Compare predictions with targets.

    Args:
        predictions: Scores by class ``(n, C, ...)`` or ``(n, ..., C)``, scores of the positive class with the shape of
            the target, or classes.
        target: Classes ``(n, ...)``, 0 and 1, or one-hot and soft labels ``(n, C)``.
        cut: Scores of a positive class above this say yes.
        ignore_index: Targets that do not count, besides the usual -100.

    Raises:
        NoClasses: The targets are no classes.
    """
    if not is_rows(predictions) or not is_rows(target):
        raise NoClasses("what is no tensor with one row a sample")
    predictions, target = predictions.detach(), target.detach()
    flat = predictions.float().reshape(len(predictions), -1)
    # A class that is masked has -inf: that is an answer, too.
    broken = (flat.isnan() | (flat == torch.inf)).any(1)
    predictions, target = squeezed(predictions, target)
    labels, target, classes = _labels(predictions, target, cut)
    counted = target != IGNORED if ignore_index in (None, IGNORED) else (target != IGNORED) & (target != ignore_index)
    mistaken = (labels != target) & counted
    single = target.ndim == 1
    wrong = mistaken.long() if single else mistaken.flatten(1).sum(1)
    size = counted.long() if single else counted.flatten(1).sum(1)
    # A score that is NaN is no answer, whatever argmax makes of it.
    wrong = torch.where(broken, size, wrong)
    return Scored(wrong, size, target if single else None, labels if single else None, classes, broken)


def cut_of(predictions: Any, target: Any, place: str) -> float:
    """Return above which score a positive class is said: probabilities lie in 0 to 1, logits around 0."""
    if "with_logits" in place or "logits" in place:
        return 0.0
    if "binary_cross_entropy" in place or "probs" in place:
        return 0.5
    inside = isinstance(predictions, Tensor) and bool(((predictions >= 0) & (predictions <= 1)).all())
    return 0.5 if inside else 0.0


def _labels(predictions: Tensor, target: Tensor, cut: float) -> tuple[Tensor, Tensor, int]:
    """Return predicted classes, target classes and how many classes there are."""
    soft = target.is_floating_point()
    if not predictions.is_floating_point():
        if soft or predictions.shape != target.shape:
            raise NoClasses(both_readings(predictions, target))
        return predictions.long(), target.long(), _PAIR if predictions.dtype == torch.bool else 0
    if predictions.shape == target.shape:
        return _same_shape(predictions, target, soft, cut)
    dim = class_dimension(predictions, target)
    if soft or dim is None:
        raise NoClasses(both_readings(predictions, target))
    return predictions.argmax(dim), target.long(), predictions.shape[dim]


def _same_shape(predictions: Tensor, target: Tensor, soft: bool, cut: float) -> tuple[Tensor, Tensor, int]:
    if is_binary(target):
        several = target.ndim == _PAIR and target.shape[1] > 1
        if several and bool((target.sum(1) == 1).all()):
            return predictions.argmax(1), target.argmax(1), target.shape[1]
        return (predictions > cut).long(), target.long(), _PAIR
    rows = soft and target.ndim == _PAIR and target.shape[1] > 1 and bool((target >= 0).all())
    if rows and torch.allclose(target.sum(1), torch.ones_like(target[:, 0]), atol=1e-3):
        return predictions.argmax(1), target.argmax(1), target.shape[1]
    raise NoClasses(both_readings(predictions, target))
