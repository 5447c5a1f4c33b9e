"""Whether samples that are alike have the same label: they do not where files were paired wrongly."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule

SAMPLES = 1000
FEWEST = 200
# One split must show that distance means something, beyond doubt; the other that its labels do not follow it.
SURE = 6.0
NONE = 2.0

LABELS_UNRELATED = Rule(
    "labels-unrelated-to-inputs",
    Severity.WARNING,
    "neighbours share their label in {good:.0%} of the {sound} samples, and in {bad:.0%} of the {broken} samples, as "
    "chance gives ({chance:.0%}): the labels of {broken} do not belong to their inputs",
    "Look how inputs and labels are put together there: two lists sorted apart, or one shuffled without the other.",
    section="data",
    cost="once",
)


def judge(
    train: tuple[Tensor, NDArray[np.int64]], val: tuple[Tensor, NDArray[np.int64]], where: Where
) -> Iterator[Finding]:
    """Yield that the labels of one split are unrelated to its inputs, where those of the other are not.

    Where neither split shows a relation, distance may mean nothing for these inputs, and nothing is said.
    """
    splits = {"training": _agreement(*train), "validation": _agreement(*val)}
    if any(each is None for each in splits.values()):
        return
    (one, (first, first_chance, first_z)), (other, (second, second_chance, second_z)) = splits.items()  # type: ignore[misc]
    if first_z >= SURE and second_z < NONE and second < (first + second_chance) / 2:
        yield LABELS_UNRELATED.found(where, good=first, bad=second, chance=second_chance, sound=one, broken=other)
    elif second_z >= SURE and first_z < NONE and first < (second + first_chance) / 2:
        yield LABELS_UNRELATED.found(where, good=second, bad=first, chance=first_chance, sound=other, broken=one)


def _agreement(values: Tensor, labels: NDArray[np.int64]) -> tuple[float, float, float] | None:
    """Return how often the nearest neighbour has the same label, how often by chance, and how far above in sigmas."""
    values, labels = values[:SAMPLES], labels[:SAMPLES]
    count = min(len(values), len(labels))
    if count < FEWEST or len(np.unique(labels[:count])) < 2:
        return None
    values = values[:count]
    spread = values.std(0)
    values = values[:, spread > 0] / spread[spread > 0]
    if not values.shape[1]:
        return None
    distances = torch.cdist(values, values)
    distances.fill_diagonal_(math.inf)
    nearest = distances.argmin(1).numpy()
    labels = labels[:count]
    same = float((labels == labels[nearest]).mean())
    shares = np.unique(labels, return_counts=True)[1] / count
    chance = float((shares**2).sum())
    sigma = math.sqrt(max(chance * (1 - chance), 1e-12) / count)
    return same, chance, (same - chance) / sigma
