"""Whether a classifier is better than one that always answers the most frequent class."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule

TRIVIAL = Rule(
    "no-better-than-trivial",
    Severity.WARNING,
    "the model is no better than always answering {name}: {right:.1%} of {n} {unit} are right, and {baseline:.1%} "
    "would be (a gain of {gain:+.1%}, {low:+.1%} to {high:+.1%})",
    "Look first at what the model sees and how it learns: whether the loss falls at all, the scale of inputs and of "
    "summed embeddings, dead units or inputs (ActivationMonitor), the learning rate; then whether labels belong to "
    "their inputs.",
    section="bias-variance",
    cost="once",
    can_follow=(
        "class-shift",
        "constant-output",
        "dead-units",
        "gradients-zeroed-by-clipping",
        "input-shift",
        "labels-unrelated-to-inputs",
        "learning-rate-schedule",
        "no-gradient",
        "no-loss",
        "parameter-not-updated",
        "scheduler-never-stepped",
        "unshuffled-training-data",
        "unused-input",
        "update-ratio-low",
        "zero-gradient",
    ),
)

_Z = 1.96  # 95 %
_FEW = 10  # answers beyond the most frequent class, without which nothing can be said
_SKILL = 0.1  # of what there is to gain: an upper bound above it leaves room for a model that has learned (a choice)
_RARE = 0.9  # beyond this share of one class a sound model may answer nothing else, and still rank well


@dataclass(frozen=True)
class AgainstTrivial:
    """A classifier against the constant answer, on the same samples."""

    name: int  # position of the most frequent class
    n: int  # answers
    right: float  # share of the model's answers that are right
    baseline: float  # share of the constant answer's
    low: float  # lower end of the 95 % interval of the gain
    high: float  # upper end
    # lower end of the 95 % interval of the mean recall, in which each class counts alike: a loss that weighs classes
    # gives up accuracy for it
    recall: float = 0.0
    blind: float = 1.0  # mean recall of answers that do not look at the sample, 1 by the number of classes

    @property
    def is_trivial(self) -> bool:
        """No gain is shown, none of a size worth having is possible, and classes are not told apart."""
        if self.recall > self.blind + _SKILL * (1 - self.blind):
            return False
        others = self.n * (1 - self.baseline)
        return others >= _FEW and self.low <= 0 and self.high * self.n < _SKILL * others


def against_constant(hits: NDArray[np.int64], support: NDArray[np.int64]) -> AgainstTrivial | None:
    """Compare by the answers on which the two differ: paired, as McNemar's test is; ``None`` without answers.

    Shapes:
        hits, support: (classes,), right answers and all answers of each true class.

    >>> found = against_constant(np.array([60, 0, 0]), np.array([60, 25, 15]))
    >>> found.is_trivial, found.right, found.baseline
    (True, 0.6, 0.6)
    >>> against_constant(np.array([55, 20, 12]), np.array([60, 25, 15])).is_trivial
    False
    """
    n = int(support.sum())
    if not n:
        return None
    top = int(support.argmax())
    won = int(hits.sum() - hits[top])
    lost = int(support[top] - hits[top])
    gain = (won - lost) / n
    spread = _Z * math.sqrt(max(won + lost - (won - lost) ** 2 / n, 0.0)) / n
    held = support > 0
    recalls = hits[held] / support[held]
    error = math.sqrt(float((recalls * (1 - recalls) / support[held]).sum())) / len(recalls)
    recall, blind = float(recalls.mean()) - _Z * error, 1 / len(recalls)
    right, baseline = float(hits.sum()) / n, float(support[top]) / n
    return AgainstTrivial(top, n, right, baseline, gain - spread, gain + spread, recall, blind)


def unless_guessed(finding: Finding, guessed: Collection[str]) -> Finding:
    """Return the finding, an info where nothing but their kind says that what was compared are predictions and targets.

    What a batch holds beside its inputs may be actions that were taken, or classes that are wrong.

    Args:
        guessed: Steps whose targets no loss function was heard to take, nor anybody has named.
    """
    return replace(finding, severity=Severity.INFO) if guessed and finding.rule == TRIVIAL.name else finding


def trivial_finding(where: Where, found: AgainstTrivial | None, name: str, unit: str) -> Finding | None:
    """Return the finding if the model is no better; an info where one class is nearly all there is."""
    if found is None or not found.is_trivial:
        return None
    return TRIVIAL.found(
        where,
        severity=Severity.INFO if found.baseline > _RARE else None,
        name=name,
        unit=unit,
        right=found.right,
        n=found.n,
        baseline=found.baseline,
        gain=found.right - found.baseline,
        low=found.low,
        high=found.high,
    )
