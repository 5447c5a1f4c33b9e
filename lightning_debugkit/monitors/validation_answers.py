"""Whether what validation answers is any better than the most frequent class, and its loss than the classes' shares."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_debugkit.core.compat import LightningModule
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.loss_functions import BINARY_LOSSES, CLASS_LOSSES, VALUE_LOSSES
from lightning_debugkit.core.patching import has_compiled_code
from lightning_debugkit.core.step_hooks import LossWatch
from lightning_debugkit.core.trivial_answer import AgainstTrivial, against_constant, trivial_finding
from lightning_debugkit.monitors.validation_numbers import (
    OF_BATCH,
    Numbers,
    compared,
    evenly_spread,
    is_chance,
    numbers_finding,
    sampled_numbers,
)
from lightning_debugkit.stats.tensor_norms import unobserved

FEWEST_STEPS = 100  # a shorter fit is a trial
SURE_STEPS = 1000  # a shorter one may have been ended before it began to learn: its standstill is an info
ENOUGH = 2048  # answers of one validation: more narrow the interval of an accuracy by little
_UNIT = "answers in validation"
# A model that knows but the shares of the classes has a loss of their entropy, or more where they were others in
# training. One that has learned has less, even if its likeliest answer never is the right one: pixels, tokens.
_LOSS = 0.995


@dataclass(frozen=True)
class _Answers:
    """Some answers of a batch, each (n,): classes, answers, losses, scores of the true class beyond those by chance."""

    target: Tensor
    answer: Tensor
    loss: Tensor
    above: Tensor


class ValidationAnswers:
    """Hear the one loss function of the first batches of each validation, and judge the last two.

    Of several, the one for classes is heard, such as beside a reconstruction.
    """

    def __init__(self) -> None:
        self._watch: LossWatch | None = None
        self._answers: list[_Answers | Numbers] = []  # all of one kind
        self._count = 0
        self._is_open = False  # more answers of this validation are wanted
        self._only_numbers = False
        self._last: deque[Finding | None] = deque(maxlen=2)

    def begin(self, module: LightningModule, only_numbers: bool = False) -> None:
        """Begin a validation; ``only_numbers`` where another judges answers that are classes."""
        self.release()
        self._only_numbers = only_numbers
        self._answers, self._count = [], 0
        self._is_open = not has_compiled_code(module)

    def listen(self, module: LightningModule) -> None:
        """Hear the step of the batch that is next, while there are too few answers."""
        if self._is_open:
            self._watch = LossWatch()
            self._watch.put_around(module, "validation_step")

    def after_batch(self, batch: Any) -> None:
        """Take up what was heard; a step with several such losses has answers that may be meant to tell nothing."""
        watch, self._watch = self._watch, None
        if watch is None:
            return
        watch.remove()
        with torch.no_grad(), unobserved():
            found = _heard(watch, batch) if watch.error is None else None
        is_others = self._only_numbers and not isinstance(found, Numbers)
        if found is None or is_others or any(type(found) is not type(other) for other in self._answers):
            self._answers, self._is_open = [], False
        else:
            self._answers.append(found)
            self._count += len(found.target)
            self._is_open = self._count < ENOUGH

    def end(self, where: Where) -> None:
        """Judge the answers of the validation that is over."""
        self._is_open = False
        if self._answers:
            self._last.append(_judged(where, self._answers))
            self._answers = []

    def conclude(self, steps: int) -> Iterator[Finding]:
        """Yield that the last two validations were no better than a constant; ``steps`` are those of this fit."""
        if steps < FEWEST_STEPS or len(self._last) < 2 or self._last[0] is None or self._last[1] is None:
            return
        told = self._last[1]
        is_sure = steps >= SURE_STEPS or told.evidence.get("is_far", False)
        yield told if is_sure else replace(told, severity=Severity.INFO)

    def release(self) -> None:
        """Leave the module as it was; may be called twice."""
        if self._watch is not None:
            self._watch.remove()
            self._watch = None


def _heard(watch: LossWatch, batch: Any) -> _Answers | Numbers | None:
    """Return some of what the one loss function of a step was given, `None` where there is not one alone."""
    classes = [call for call in watch.calls if call[0] in CLASS_LOSSES]
    masks = watch.masks
    if len(classes) == 1 and not masks.counted and masks.single <= masks.reached:
        return _answers(*classes[0])
    if classes or watch.is_unreduced or len(watch.calls) != 1 or watch.calls[0][0] not in VALUE_LOSSES:
        return None
    name, prediction, target, _ = watch.calls[0]
    return sampled_numbers(name, prediction, target, batch)


def _judged(where: Where, answers: list[_Answers | Numbers]) -> Finding | None:
    if predicted := [each for each in answers if isinstance(each, Numbers)]:
        return numbers_finding(where, compared(predicted))
    found = _compared([each for each in answers if isinstance(each, _Answers)])
    return trivial_finding(where, found, f"class {found.name}", _UNIT) if found is not None else None


def _compared(answers: list[_Answers]) -> AgainstTrivial | None:
    """Return the comparison with the constant answer if the model is no better by any measure."""
    parts = [torch.stack([a.target.double(), a.answer.double(), a.loss.double(), a.above.double()]) for a in answers]
    target, answer, loss, above = torch.cat(parts, dim=1).cpu().numpy()
    if not np.isfinite(loss).all() or not np.isfinite(above).all():
        return None
    classes = target.astype(np.int64)
    support = np.bincount(classes)
    found = against_constant(np.bincount(classes[answer == target], minlength=len(support)), support)
    shares = support[support > 0] / len(target)
    entropy = -float((shares * np.log(shares)).sum())
    error = float(above.std()) / math.sqrt(len(above))
    # What is learned raises the scores of the true classes; a margin, as of angular losses, lowers them on purpose.
    is_blind = is_chance(float(above.mean()), error)
    is_trivial = found is not None and found.is_trivial
    return found if is_trivial and is_blind and float(loss.mean()) >= _LOSS * entropy else None


def _answers(name: str, scores: Tensor, target: Tensor, ignored: int | None) -> _Answers | None:
    """Return some answers of a batch, ``None`` where the targets are no single classes or none of them counts."""
    made = _binary(name, scores, target) if name in BINARY_LOSSES else _multiclass(scores, target)
    if made is None:
        return None
    rows, labels = made
    counted = labels != (-100 if ignored is None else ignored)
    rows, labels = rows[counted].float(), labels[counted].long()
    # As many classes as samples: pairs within the batch are compared, and each label is another.
    if not len(labels) or rows.shape[1] in (1, len(scores)):
        return None
    losses = (F.nll_loss if name == "nll_loss" else F.cross_entropy)(rows, labels, reduction="none")
    shares = torch.bincount(labels, minlength=rows.shape[1]).to(rows) / len(labels)
    above = rows.gather(1, labels[:, None])[:, 0] - rows @ shares
    return _Answers(labels, rows.argmax(1), losses, above)


def _multiclass(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor] | None:
    if target.is_floating_point() or scores.ndim < 2 or scores.shape[:1] + scores.shape[2:] != target.shape:
        return None
    labels = target.reshape(-1)
    at = evenly_spread(len(labels), OF_BATCH, labels.device)
    if scores.ndim == 2:
        return scores[at], labels[at]
    inner = scores.shape[2:].numel()
    return scores.flatten(2)[at // inner, :, at % inner], labels[at]


def _binary(name: str, scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor] | None:
    is_single = scores.ndim == 1 or scores.shape[1:2] == (1,)
    if not is_single or scores.shape != target.shape or not bool(((target == 0) | (target == 1)).all()):
        return None
    at = evenly_spread(target.numel(), OF_BATCH, target.device)
    logits, labels = scores.reshape(-1)[at].float(), target.reshape(-1)[at]
    if name == "binary_cross_entropy":
        logits = logits.logit(1e-7)
    return torch.stack([torch.zeros_like(logits), logits], dim=1), labels
