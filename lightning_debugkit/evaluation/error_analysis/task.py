"""What kind of question a model answers, and in which form its scores come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from lightning_debugkit.core.loss_functions import VALUE_LOSSES
from lightning_debugkit.core.step_hooks import is_detections
from lightning_debugkit.data.batches import leaves
from lightning_debugkit.evaluation.predictions.readings import (
    IGNORED,
    Reading,
    both_readings,
    class_dimension,
    fit_together,
    is_binary,
    is_rows,
    squeezed,
)
from lightning_debugkit.evaluation.predictions.wrong_samples import NoClasses

TaskName: TypeAlias = Literal["multiclass", "binary", "multilabel", "segmentation", "detection"]
Scores: TypeAlias = Literal["logits", "probabilities", "classes"]
TASKS: tuple[TaskName, ...] = ("multiclass", "binary", "multilabel", "segmentation", "detection")

MOST_CLASSES = 100_000  # that numbers without scores can stand for: figures of each are kept
_ONE_BY_ONE = ("binary_cross_entropy", "binary_cross_entropy_with_logits", "multilabel_soft_margin_loss")
_COLUMNS = 2
_TOKENS = 2
_CLOSE = 1e-3
_LOOSE = 2 * torch.finfo(torch.bfloat16).eps
_HALF = 0.5


@dataclass(frozen=True)
class Task:
    """How the answers of a batch are to be read."""

    task: TaskName
    unit: str  # what is counted: `samples`, `labels`, `pixels`, `tokens` or `boxes`
    scores: Scores  # what the scores are
    classes: int = 0  # classes that they tell apart, 0 if that is not known
    channel: int | None = 1  # dimension of the classes, `None` where a score is that of a yes
    soft: bool = False  # whether targets are shares of classes
    rounded: bool = False  # whether targets were shares of a yes, and are yes or no by what is more


def shaped(reading: Reading, rows: int | None) -> Reading:
    """Return a reading with one row a sample: ``(n, 1)`` is ``(n,)``, and tokens stand by their samples again.

    What a binary loss was given as the share of a yes, as label smoothing makes it, is a yes or no.
    """
    predictions, target = reading.predictions, reading.target
    if not is_rows(predictions) or not is_rows(target):
        return reading
    predictions, target = squeezed(predictions, target)
    each, rest = divmod(len(target), rows) if rows else (1, 0)
    if target.ndim == 1 and each > 1 and not rest and len(predictions) == len(target):
        # A loss over tokens is often asked with samples and tokens as one dimension.
        predictions, target = (part.reshape(-1, each, *part.shape[1:]) for part in (predictions, target))
    elif target.ndim == 1 and each >= 1 and rest and len(predictions) == len(target):
        # Some were taken out before the loss: nobody knows of which sample which token is.
        predictions, target = predictions[None], target[None]
    reading = replace(reading, predictions=predictions, target=target)
    if reading.function in _ONE_BY_ONE and target.is_floating_point() and predictions.shape == target.shape:
        between = (target > 0) & (target < 1)
        reading = replace(reading, target=torch.where(between, (target > _HALF).to(target.dtype), target), given=target)
    return reading


def task_of(reading: Reading, task: TaskName | None = None) -> Task:
    """Return the form of a reading that `shaped` gave.

    Raises:
        NoClasses: The targets are no classes, do not go with the predictions, or not with ``task``.
    """
    if task is None and _is_of_values(reading):
        raise _regression(reading)
    found = _task(reading, task)
    if task is not None and found.task != task:
        raise NoClasses(f"what looks like task {found.task!r}: {_both(reading)}")
    return found


def of_places(form: Task, reading: Reading, batch: Any) -> Task:
    """Return a form whose tokens are pixels if they are the cells of a mask in the batch, in one row for the loss."""
    masks = (leaf for _, leaf in leaves(batch) if is_rows(leaf) and not leaf.is_floating_point())
    is_mask = form.unit == "tokens" and any(
        mask.ndim > _TOKENS and mask.numel() == reading.target.numel() for mask in masks
    )
    return replace(form, unit="pixels") if is_mask else form


def _regression(reading: Reading) -> NoClasses:
    told = _both(reading).replace(" and targets", " with targets")
    return NoClasses(f"a regression, whose error BiasVarianceReport measures: {told}")


def check_same_task(form: Task, reading: Reading) -> None:
    """Refuse values that were taken for yes and no, because the first ones were all 0 or 1.

    Raises:
        NoClasses: They are values.
    """
    target, is_told = reading.target, reading.function in _ONE_BY_ONE
    if form.channel is not None or form.soft or form.scores == "classes" or is_told or not is_rows(target):
        return
    odd = (target != 0) & (target != 1) & (target != IGNORED) & (target == target)
    if reading.function not in VALUE_LOSSES:
        # A whole number may stand for what is not known.
        odd &= target != target.round() if target.is_floating_point() else torch.zeros_like(odd)
    if bool(odd.any()):
        raise _regression(reading)


def _task(reading: Reading, task: TaskName | None) -> Task:
    predictions, target = reading.predictions, reading.target
    if is_detections(predictions) and fit_together(predictions, target):
        return Task("detection", "boxes", "classes")
    if not is_rows(predictions) or not is_rows(target):
        raise NoClasses(f"what is no tensor with one row a sample: {_both(reading)}")
    if not predictions.is_floating_point():
        return _of_labels(reading)
    if predictions.shape == target.shape:
        return _of_same_shape(reading, task)
    channel = class_dimension(predictions, target)
    if channel is None or target.is_floating_point():
        raise NoClasses(_both(reading))
    scores, classes = _kind_of(reading, channel), predictions.shape[channel]
    if target.ndim == 1:
        return Task("multiclass", "samples", scores, classes)
    return Task("segmentation", _places(target), scores, classes, channel)


def _of_labels(reading: Reading) -> Task:
    predictions, target = reading.predictions, reading.target
    if predictions.shape != target.shape or (target.is_floating_point() and not is_binary(target)):
        raise NoClasses(_both(reading))
    classes = _COLUMNS if predictions.dtype == torch.bool else 0
    most = max((int(part.max()) for part in (predictions, target) if part.numel()), default=0)
    if most >= MOST_CLASSES:
        raise NoClasses(f"numbers up to {most:,}, which are identities or values, not classes")
    if target.ndim == 1:
        return Task("binary" if classes else "multiclass", "samples", "classes", classes, None)
    if target.ndim == _COLUMNS and (classes or target.is_floating_point()):
        return Task("multilabel", "labels", "classes", target.shape[1], None)
    return Task("segmentation", _places(target), "classes", classes, None)


def _of_same_shape(reading: Reading, task: TaskName | None) -> Task:
    target = reading.target
    binary = is_binary(target)
    one_by_one = task == "multilabel" or (reading.function in _ONE_BY_ONE and task != "multiclass")
    shares = not one_by_one and _may_be_shares(target)
    if shares and (target.ndim == _COLUMNS or binary):
        form = Task("segmentation", "pixels", _kind_of(reading, 1), target.shape[1], soft=True)
        return form if target.ndim > _COLUMNS else replace(form, task="multiclass", unit="samples")
    if not binary:
        raise NoClasses(_both(reading))
    scores, rounded = _kind_of_yes(reading), reading.given is not None and not is_binary(reading.given)
    if target.ndim == 1:
        return Task("binary", "samples", scores, _COLUMNS, None, rounded=rounded)
    if target.ndim == _COLUMNS:
        return Task("multilabel", "labels", scores, target.shape[1], None, rounded=rounded)
    return Task("segmentation", "pixels", scores, _COLUMNS, None, rounded=rounded)


def is_decided(form: Task, reading: Reading) -> bool:
    """Tell whether there are scores to tell a form by: of a batch that is all NaN nothing can be said."""
    if form.scores == "classes":
        return True
    is_nan = reading.predictions.isnan()
    return not bool((is_nan if form.channel is None else is_nan.any(form.channel)).all())


def at_most_one(confidence: Tensor) -> Tensor:
    """Return probabilities that are above 1 by no more than they are rounded as 1."""
    return torch.where(confidence <= 1 + _LOOSE, confidence.clamp(max=1), confidence)


def _kind_of(reading: Reading, channel: int) -> Scores:
    values = reading.predictions.detach().float().movedim(channel, -1).flatten(0, -2)
    values = values[~values.isnan().any(1)]
    close = _rounding(values)
    inside = bool(((values >= 0) & (values <= 1 + close)).all())
    # What is called probabilities need not be rounded in a way that can be seen.
    return "probabilities" if inside and ("prob" in reading.places[0] or _sums_to_one(values)) else "logits"


def _rounding(values: Tensor) -> float:
    """Return how far from 1 rows of probabilities may sum up to, by the digits that they have."""
    for short in (torch.bfloat16, torch.float16):
        if torch.equal(values, values.to(short).to(values.dtype)):
            return max(_CLOSE, 2 * torch.finfo(short).eps)
    return _CLOSE


def _kind_of_yes(reading: Reading) -> Scores:
    place = reading.places[0]
    if "logits" in place or "logits" in reading.function:
        return "logits"
    values = reading.predictions[~reading.predictions.isnan()]
    inside = bool(((values >= 0) & (values <= 1 + _rounding(values))).all())
    known = "binary_cross_entropy" in place or "probs" in place
    return "probabilities" if inside or known else "logits"


def fits(form: Task, reading: Reading) -> bool:
    """Tell whether a batch is of the same make as the one that the form was told by."""
    predictions, target = reading.predictions, reading.target
    if form.task == "detection":
        return is_detections(predictions) and fit_together(predictions, target)
    if not is_rows(predictions) or not is_rows(target):
        return False
    if form.channel is None or form.soft:
        several = form.task == "multilabel" or form.soft
        return bool(predictions.shape == target.shape and (not several or predictions.shape[1] == form.classes))
    if predictions.ndim != target.ndim + 1 or (target.ndim == 1) != (form.task == "multiclass"):
        return False
    shape = list(predictions.shape)
    return shape.pop(form.channel) == form.classes and shape == list(target.shape)


def is_still(form: Task, predictions: Tensor) -> bool:
    """Tell whether scores of a yes that were taken for probabilities may still be some."""
    if form.scores != "probabilities" or form.channel is not None:
        return True
    return not bool(((predictions < 0) | (predictions > 1 + _LOOSE)).any())


def _sums_to_one(values: Tensor) -> bool:
    return bool(((values.sum(1) - 1).abs() < _rounding(values)).all())


def _is_of_values(reading: Reading) -> bool:
    """Tell whether predictions are compared with values, not with classes."""
    predictions, target = reading.predictions, reading.target
    if not is_rows(predictions) or not is_rows(target) or predictions.shape != target.shape:
        return False
    if reading.given is not None:
        # Smoothed yes and no are two values; an image that is made anew by a binary loss has many.
        between = reading.given[(reading.given > 0) & (reading.given < 1)]
        return not is_binary(target) or (target.ndim > 1 and len(between.unique()) > _COLUMNS)
    if is_binary(target) or _may_be_shares(target):
        return False
    return target.is_floating_point() or reading.function in VALUE_LOSSES


def _may_be_shares(target: Tensor) -> bool:
    return target.ndim > 1 and target.shape[1] > 1 and _sums_to_one(target.float().clamp(min=0))


def _places(target: Tensor) -> str:
    return "tokens" if target.ndim == _TOKENS else "pixels"


def _both(reading: Reading) -> str:
    return both_readings(reading.predictions, reading.target)
