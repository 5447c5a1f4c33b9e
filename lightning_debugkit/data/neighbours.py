"""Whether samples that are alike have the same label: they do not where files were paired wrongly."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.core.trivial_answer import AgainstTrivial
from lightning_debugkit.data.first_loss import FirstLoss
from lightning_debugkit.stats.close_pairs import first_rows

SAMPLES = 1000
FEWEST = 200
# One split must show that distance means something, beyond doubt; the other that its labels do not follow it.
SURE = 6.0
NONE = 2.0
WORDS = 4096  # that are compared, the most frequent ones

# Where both splits show no relation, distance may mean nothing: then the training must have shown nothing, either. So
# many steps, after which the loss is still what the shares of the classes alone give, though it is a cross entropy: it
# was heard as one, or began near ln C.
STEPS = 50
LEARNED = 0.1
BEGINS = 0.25

LABELS_UNRELATED = Rule(
    "labels-unrelated-to-inputs",
    Severity.WARNING,
    "{told}",
    "Check how inputs and labels are put together there: two lists sorted separately, or one shuffled without the "
    "other.",
    on_data=True,
    section="data",
    cost="once",
)
_ONE_SPLIT = (
    "neighbours share their label in {good:.0%} of the {sound} samples, and in {bad:.0%} of the {broken} samples, as "
    "chance gives ({chance:.0%}): the labels of {broken} do not belong to their inputs"
)
_BOTH = (
    "neighbours share their label in {same:.0%} of the training samples, as chance gives ({chance:.0%}), and after "
    "{steps} steps the loss is {loss:.3g}, as the shares of the classes alone give ({entropy:.3g}): the labels do not "
    "seem to belong to their inputs"
)

_BY_HEART = (
    "neighbours share their label in {same:.0%} of the training samples, as chance gives ({chance:.0%}); after {steps} "
    "steps training samples are learned by heart (a loss of {loss:.3g}), and {right:.0%} of the answers in validation "
    "are right, where the most frequent class alone gives {baseline:.0%}: the labels do not seem to belong to their "
    "inputs"
)


@dataclass(frozen=True)
class Agreement:
    """How often the nearest neighbour of a sample has the same label."""

    same: float  # share of the samples
    chance: float  # what it would be if labels had nothing to do with inputs
    sigmas: float  # how far the one is above the other, in standard errors

    @property
    def is_chance(self) -> bool:
        return self.sigmas < NONE


def judge(train: Agreement, val: Agreement, where: Where) -> Iterator[Finding]:
    """Yield that the labels of one split are unrelated to its inputs, where those of the other are not."""
    for (good, sound), (bad, broken) in permutations(((train, "training"), (val, "validation"))):
        if good.sigmas >= SURE and bad.is_chance and bad.same < (good.same + bad.chance) / 2:
            facts: dict[str, Any] = {
                "good": good.same,
                "bad": bad.same,
                "chance": bad.chance,
                "sound": sound,
                "broken": broken,
            }
            yield LABELS_UNRELATED.found(where, told=_ONE_SPLIT.format(**facts), **facts)


def judge_unlearned(
    first: FirstLoss, train: Agreement, labels: NDArray[np.int64], losses: Sequence[float], steps: int,
    answers: AgainstTrivial | None, where: Where,
) -> Iterator[Finding]:  # fmt: skip
    """Yield that labels are unrelated to inputs in both splits, where training has found no relation either.

    Args:
        train: Agreement of the training samples, by chance in both splits.
        labels: Labels ``(n,)`` of the training samples.
        losses: The first training loss, then the last ones.
        answers: Of the last validation beside the most frequent class, ``None`` if that is not known.
    """
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    entropy = float(-(shares * np.log(shares)).sum())
    last = float(np.mean(losses[1:])) if len(losses) > 1 else math.nan
    begins_so = abs(losses[0] - math.log(len(shares))) <= BEGINS * math.log(len(shares))
    # What lies far above the entropy has not learned the shares of the classes yet, or lies on another scale.
    is_there = (1 - LEARNED) * entropy <= last <= entropy / (1 - LEARNED)
    # Or training samples are learned one by one, and nothing of it holds for others.
    is_by_heart = last < (1 - LEARNED) * entropy and answers is not None and answers.is_trivial
    if steps >= STEPS and (is_there or is_by_heart) and (begins_so or first.is_all(losses[0], "cross_entropy")):
        facts: dict[str, Any] = {
            "same": train.same,
            "chance": train.chance,
            "steps": steps,
            "loss": last,
            "entropy": entropy,
        }
        if is_by_heart and answers is not None:
            facts |= {"right": answers.right, "baseline": answers.baseline}
        yield LABELS_UNRELATED.found(where, told=(_BY_HEART if is_by_heart else _BOTH).format(**facts), **facts)


def agreement(values: Tensor, labels: NDArray[np.int64], are_words: bool = False) -> Agreement | None:
    """Return how often neighbours share labels, copies left out, ``None`` where that cannot be told.

    Args:
        values: ``(n, d)`` float, compared column by column on the scale of its spread.
        labels: ``(n,)`` whole numbers.
        are_words: The values are numbers of words: samples are near that share rare ones, wherever they stand.
    """
    count = min(len(values), len(labels), SAMPLES)
    # A copy has its label from where it was copied.
    first = [*first_rows(values[:count]).values()]
    values, labels, count = values[first], labels[first], len(first)
    if count < FEWEST or len(np.unique(labels)) < 2:
        return None
    values = words_of(values) if are_words else values
    spread = values.std(0)
    # Centred: of numbers far from 0, float32 leaves nothing of small distances.
    values = values[:, spread > 0] if are_words else ((values - values.mean(0)) / spread)[:, spread > 0]
    if not values.shape[1]:
        return None
    distances = torch.cdist(values, values)
    distances.fill_diagonal_(math.inf)
    nearest = distances.argmin(1).numpy()
    same = float((labels == labels[nearest]).mean())
    shares = np.unique(labels, return_counts=True)[1] / count
    chance = float((shares**2).sum())
    sigma = math.sqrt(max(chance * (1 - chance), 1e-12) / count)
    if 1 - chance < SURE * sigma:  # nearly all are of one class: labels that follow their inputs would not show
        return None
    return Agreement(same, chance, (same - chance) / sigma)


def words_of(texts: Tensor) -> Tensor:
    """Return texts ``(n, length)`` as which words they hold, rare ones counting more, each of length 1: ``(n, words)``.

    A word of one text alone, and one of most texts, as what fills them up, tell no texts apart.

    >>> words_of(torch.tensor([[7, 5, 0], [5, 7, 7], [9, 1, 0], [2, 9, 0]])).sign().int().tolist()
    [[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1]]
    """
    words, places = texts.unique(return_inverse=True)
    held = torch.zeros(len(texts), len(words)).scatter_(1, places, 1.0)
    counts = held.sum(0)
    kept = ((counts > 1) & (counts <= len(texts) / 2)).nonzero()[:, 0]
    kept = kept[counts[kept].argsort(descending=True, stable=True)[:WORDS].sort().values]
    weights = held[:, kept] * (len(texts) / counts[kept]).log()
    unit: Tensor = weights / torch.linalg.vector_norm(weights, dim=1, keepdim=True).clamp_min(1e-12)
    return unit
