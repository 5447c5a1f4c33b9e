"""Weights of classes that are given to other classes than they were made for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule

Labels = NDArray[np.int64]
LOSSES = 4  # of a step
EACH = 20  # samples of each class
# Two numbers are one if they differ by so much: weights may come of the data before they were split.
NEAR = 0.1
EXACT = 0.01  # of two classes, whose weights someone may have chosen
RATIO = 2.0  # of the most frequent to the rarest class: of balanced ones every weight is as good
WRONG = 1.5  # times too large or too small for one class

CLASS_WEIGHTS_MISPLACED = Rule(
    "class-weights-misplaced",
    Severity.WARNING,
    "the loss weighs classes by {weights}, and the training data hold {counts} of them: {what}",
    "Give class k the weight count.sum() / (classes * count[k]), with counts in the order of the labels "
    "(torch.bincount(labels)).",
    section="data",
    cost="once",
)
_SHARES = "the weights are the shares of the classes themselves, so that rare ones count even less"
_ORDER = "those are the inverse shares of these classes in another order"


def judge_each(weights: Sequence[Tensor], labels: Labels, where: Where) -> Iterator[Finding]:
    """Yield the first of these class weights that belong to other classes than those of the labels."""
    for each in weights[:LOSSES]:
        found = list(judge(each.cpu().double().numpy(), labels, where))
        if found:
            yield from found
            return


def judge(weights: NDArray[np.float64], labels: Labels, where: Where) -> Iterator[Finding]:
    """Yield that weights ``(classes,)`` belong to other classes than those of the labels ``(n,)``."""
    if labels.min() < 0 or labels.max() >= len(weights) or not (weights > 0).all():
        return
    counts = np.bincount(labels, minlength=len(weights))
    if counts.min() < EACH or len(weights) < 2 or counts.max() < RATIO * counts.min():
        return
    near = EXACT if len(weights) == 2 else NEAR
    is_misplaced = _off(weights * counts) > WRONG
    if _off(weights / counts) <= 1 + near:
        what = _SHARES
    elif is_misplaced and _off(np.sort(weights)[::-1] * np.sort(counts)) <= 1 + near:
        what = _ORDER
    else:
        return
    shown = [", ".join(f"{number:.3g}" for number in numbers[:10]) for numbers in (weights, counts)]
    yield CLASS_WEIGHTS_MISPLACED.found(where, weights=shown[0], counts=shown[1], what=what)


def _off(numbers: NDArray[np.float64]) -> float:
    """Return how far numbers lie from one, as the greatest ratio to their middle."""
    middle = np.sqrt(numbers.max() * numbers.min())
    return float(numbers.max() / middle)
