"""Whether numbers to be predicted have to do with their inputs: they do not where files were paired wrongly."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor

from lightning_debugkit.core.finding import Finding, Where
from lightning_debugkit.data.first_loss import FirstLoss
from lightning_debugkit.data.neighbours import FEWEST, LABELS_UNRELATED, LEARNED, SAMPLES, STEPS, SURE
from lightning_debugkit.stats.close_pairs import first_rows
from lightning_debugkit.stats.constant_answers import LEAST_LOSS

NEIGHBOURS = 5
ROWS = 5  # for each column, with which a straight line is fitted
NONE = 0.05  # level at which a split shows nothing, by any test and for any target
# The same relation in both splits, and chance alone hides it in one: not at so many standard errors.
APART = 4.0
_TOLD = (
    "{how} the target is told in the {sound} samples ({good:.2f}, {sigmas:.0f} standard errors beyond chance), and not "
    "in the {broken} samples ({bad:.2f}, as chance gives): the targets of {broken} do not belong to their inputs"
)
_BOTH = (
    "neither the nearest inputs nor a straight line tell the target, and after {steps} "
    "steps the loss is {loss:.3g}, as one number for all samples gives ({trivial:.3g}): the targets do not seem to "
    "belong to their inputs"
)


@dataclass(frozen=True)
class Test:
    """One look at inputs and targets that knows no model."""

    how: str  # the start of a sentence
    strength: float  # 0 where there is no relation, 1 where it is perfect
    sigmas: float  # how far that is beyond chance, as standard errors of a normal distribution
    error: float  # standard error of the strength


@dataclass(frozen=True)
class Relation:
    """How much targets have to do with inputs."""

    tests: tuple[Test, ...]
    targets: int

    @property
    def shows_nothing(self) -> bool:
        """Tell whether there were samples enough for both tests, and neither shows a relation."""
        return len(self.tests) > 1 and self.is_none

    @property
    def is_none(self) -> bool:
        return all(test.sigmas < _beyond(NONE / (len(self.tests) * self.targets)) for test in self.tests)


def relation(inputs: Tensor, targets: Tensor) -> Relation | None:
    """Return how the targets ``(n, k)`` hang on the inputs ``(n, d)``, copies left out; ``None`` for too few."""
    count = min(len(inputs), len(targets), SAMPLES)
    first = [*first_rows(inputs[:count]).values()]
    values, wanted = inputs[first].double(), targets[first].double()
    if len(first) < FEWEST or not bool(wanted.isfinite().all()):
        return None
    spread = values.std(0)
    values = (values - values.mean(0))[:, spread > 0] / spread[spread > 0]
    ranks = torch.stack([_ranks(column) for column in wanted.T if bool((column != column[0]).any())] or [wanted[:0, 0]])
    if not values.shape[1] or not ranks.shape[1]:
        return None
    tests = [_near(values, ranks.T)]
    if len(first) >= ROWS * (values.shape[1] + 1):
        tests.append(_straight(values, ranks.T))
    return Relation(tuple(tests), len(ranks))


def judge(train: Relation, val: Relation, where: Where) -> Iterator[Finding]:
    """Yield that the targets of one split are unrelated to its inputs, where those of the other are not."""
    for (good, sound), (bad, broken) in permutations(((train, "training"), (val, "validation"))):
        for test, other in zip(good.tests, bad.tests, strict=False):
            apart = (test.strength - other.strength) / math.hypot(test.error, other.error)
            if bad.is_none and test.sigmas >= SURE and apart >= APART:
                told = _TOLD.format(
                    how=test.how, sound=sound, good=test.strength, sigmas=test.sigmas, broken=broken,
                    bad=other.strength,
                )  # fmt: skip
                yield LABELS_UNRELATED.found(where, told=told, sound=sound, broken=broken)
                return


def judge_unlearned(
    first: FirstLoss, targets: Tensor, losses: Sequence[float], steps: int, answers: object, where: Where
) -> Iterator[Finding]:
    """Yield that targets are unrelated to inputs in both splits, where training has found no relation either.

    Args:
        targets: Targets ``(n, k)`` of the training samples.
        losses: The first training loss, then the last ones.
        answers: Of classes in validation: there are none.
    """
    if steps < STEPS or len(losses) < 2 or not first.is_all(losses[0], *LEAST_LOSS):
        return
    trivial, last = LEAST_LOSS[first.function](targets.double()), sum(losses[1:]) / (len(losses) - 1)
    # Far above it, the network has not arrived at the scale of the targets yet: nothing is known of what it learns.
    if (1 - LEARNED) * trivial <= last <= trivial / (1 - LEARNED):
        told = _BOTH.format(steps=steps, loss=last, trivial=trivial)
        yield LABELS_UNRELATED.found(where, told=told, steps=steps, loss=last, trivial=trivial)


def _ranks(values: Tensor) -> Tensor:
    """Return ranks of mean 0 and spread 1, in which equal values share their mean one."""
    _, kinds, counts = values.unique(return_inverse=True, return_counts=True)
    ranks = (counts.cumsum(0) - (counts - 1) / 2)[kinds].double()
    standard: Tensor = (ranks - ranks.mean()) / ranks.std(correction=0)
    return standard


def _near(values: Tensor, ranks: Tensor) -> Test:
    """Compare the ranks ``(n, k)`` with those of the five nearest; its error is that over all orders of the targets."""
    apart = torch.cdist(values, values)
    apart.fill_diagonal_(math.inf)
    nearest = apart.topk(NEIGHBOURS, largest=False).indices
    count = len(values)
    same = float((ranks[:, None] * ranks[nearest]).mean((0, 1)).max()) + 1 / (count - 1)
    edges = torch.zeros(count, count, dtype=torch.bool)
    edges[torch.arange(count)[:, None], nearest] = True
    # Each edge counts once, and once more where there is one in both directions.
    chance = math.sqrt(int(edges.sum()) + int((edges & edges.T).sum())) / int(edges.sum())
    how = "by the nearest inputs (correlation of ranks)"
    return Test(how, same, same / chance, max(chance, 1 / math.sqrt(count)))


def _straight(values: Tensor, ranks: Tensor) -> Test:
    """Fit a straight line of the inputs: R2 of noise follows a beta distribution."""
    from scipy import stats  # late: it takes a while to import

    basis, sizes, _ = torch.linalg.svd(values, full_matrices=False)
    basis = basis[:, sizes > 1e-8 * sizes[0]]
    count, held = basis.shape
    share = min(float(((basis.T @ ranks).square().sum(0) / count).max()), 1 - 1e-9)
    sigmas = float(stats.norm.isf(max(stats.beta.sf(share, held / 2, (count - 1 - held) / 2), 1e-300)))
    known = max(1 - (1 - share) * (count - 1) / (count - 1 - held), 0.0)
    error = max(2 * math.sqrt(known) * (1 - known), math.sqrt(2 * held / count)) / math.sqrt(count)
    return Test("by a straight line (adjusted R2 of ranks)", known, sigmas, error)


def _beyond(level: float) -> float:
    return math.sqrt(2) * float(torch.erfinv(torch.tensor(1 - 2 * level, dtype=torch.double)))
