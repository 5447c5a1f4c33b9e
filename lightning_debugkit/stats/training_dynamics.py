"""How each training sample fared over the epochs: learnt early, wavering, forgotten or never learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_debugkit.stats.arrays import Flags, Floats, Integers, flags, floats, integers

MOST = 1 << 14  # times a sample is counted; what comes later is left out
_DTYPES = {
    "p": torch.float32,
    "squares": torch.float32,
    "margin": torch.float32,
    "correct": torch.int16,
    "forgets": torch.int16,
    "seen": torch.int16,
    "last": torch.bool,
}
EASY, AMBIGUOUS, HARD, UNSEEN = 0, 1, 2, -1
REGIONS = {EASY: "easy", AMBIGUOUS: "ambiguous", HARD: "hard"}


@dataclass(frozen=True)
class Course:
    """A row a sample, nan or 0 where it was never seen."""

    seen: Integers
    correct: Integers  # times it was right
    confidence: Floats  # mean probability of its target
    variability: Floats  # standard deviation of it
    forgets: Integers  # times it was right and, the next time, wrong
    ever_learnt: Flags  # whether it was ever right
    aum: Floats  # area under the margin: mean of the target's logit less the largest other

    def region(self) -> Integers:
        """Return the region of each sample: ``AMBIGUOUS`` if its variability is in the upper third, else ``EASY`` if
        the model mostly believes its label, ``HARD`` if not; ``UNSEEN`` if it was seen less than twice.

        References:
            Swayamdipta and others, Dataset Cartography, 2020: thirds of the data, hard ones hold most label errors.
        """
        known = self.seen >= 2
        found = np.full(len(self.seen), UNSEEN, dtype=np.int64)
        if known.any():
            wavers = self.variability > np.quantile(self.variability[known], 2 / 3)
            found[known] = np.where(wavers, AMBIGUOUS, np.where(self.confidence >= 0.5, EASY, HARD))[known]
        return found


class Dynamics:
    """Sums over the times that each sample was trained on: 19 bytes a sample.

    >>> dynamics = Dynamics(2)
    >>> for p in (0.75, 0.25):
    ...     dynamics.update(torch.tensor([1]), torch.tensor([p]), torch.tensor([p > 0.5]), torch.tensor([p]))
    >>> course = dynamics.course()
    >>> [column.tolist() for column in (course.confidence, course.variability, course.forgets, course.seen)]
    [[nan, 0.5], [nan, 0.25], [0, 1], [0, 2]]

    References:
        Swayamdipta and others, Dataset Cartography, 2020. Toneva and others, An Empirical Study of Example Forgetting,
        2019. Pleiss and others, Identifying Mislabeled Data using the Area Under the Margin Ranking, 2020.
    """

    def __init__(self, n: int) -> None:
        if n < 1:
            raise ValueError(f"Dynamics needs n >= 1, got {n!r}; give the length of the training set.")
        self.n = n  # samples of the training set; an index that is none of them is left out
        # The last row takes what is not counted: no batch has to be cut, which would wait for the device.
        self._sums = {name: torch.zeros(n + 1, dtype=dtype) for name, dtype in _DTYPES.items()}

    def update(self, index: Tensor, p_target: Tensor, correct: Tensor, margin: Tensor) -> None:
        """Take up a batch; a sample that is in it twice is summed twice.

        Shapes:
            index: (batch,) places in the training set; p_target: probabilities of the target; correct: whether the
            prediction was right; margin: logit of the target less the largest other.
        """
        sums = self._sums
        index, p, correct, margin = (part.detach().cpu() for part in (index, p_target, correct, margin))
        p, margin, correct = p.float(), margin.float(), correct.bool()
        place = index.long().clamp(0, self.n - 1)
        counts = (index == place) & p.isfinite() & margin.isfinite() & (sums["seen"][place] < MOST)
        place, short = place.where(counts, self.n), torch.int16
        sums["p"].index_add_(0, place, p)
        sums["squares"].index_add_(0, place, p * p)
        sums["margin"].index_add_(0, place, margin)
        sums["correct"].index_add_(0, place, correct.to(short))
        sums["forgets"].index_add_(0, place, (sums["last"][place] & ~correct).to(short))
        sums["seen"].index_add_(0, place, torch.ones_like(place, dtype=short))
        sums["last"][place] = correct

    def course(self) -> Course:
        """Return what the sums tell of each sample."""
        sums = {name: column[:-1] for name, column in self._sums.items()}
        seen, correct = integers(sums["seen"]), integers(sums["correct"])
        times = np.where(seen > 0, seen, np.nan)
        mean = floats(sums["p"]) / times
        variance = floats(sums["squares"]) / times - mean**2
        return Course(
            seen=seen,
            correct=correct,
            confidence=mean,
            variability=np.sqrt(np.maximum(variance, 0)),
            forgets=integers(sums["forgets"]),
            ever_learnt=flags(correct > 0),
            aum=floats(sums["margin"]) / times,
        )

    def merge(self, other: Dynamics) -> None:
        """Add what another saw. Of a sample that both saw it is not known what came between."""
        combined = gathered_dynamics(Dynamics(self.n), [self, other])
        self._sums = combined._sums

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint or another rank needs: ``of`` makes the same again."""
        return {name: column[:-1].cpu().clone() for name, column in self._sums.items()}

    @classmethod
    def of(cls, state: dict[str, Any]) -> Dynamics:
        found = cls(len(state["p"]))
        for name, column in state.items():
            found._sums[name][:-1] = column
        return found


def gathered_dynamics(start: Dynamics, parts: Sequence[Dynamics]) -> Dynamics:
    """Return what was seen by several ranks that all went on from ``start``, such as in an epoch.

    Ranks see other samples in each epoch: gathered after every one, no forgetting is lost.

    >>> start, one = torch.ones(1), Dynamics(1)
    >>> one.update(torch.tensor([0]), start, start > 0, start)
    >>> ranks = [Dynamics.of(one.state()), Dynamics.of(one.state())]
    >>> ranks[1].update(torch.tensor([0]), start, start < 0, start)
    >>> gathered_dynamics(one, ranks).course().forgets
    array([1])
    """
    before = start.state()
    found = Dynamics.of(before)
    for part in parts:
        if part.n != start.n:
            raise ValueError(f"Dynamics needs parts of {start.n} samples, got one of {part.n!r}; gather one data set.")
        theirs = part.state()
        for name in _DTYPES:
            if name != "last":
                found._sums[name][:-1] += theirs[name] - before[name]
        saw = theirs["seen"] > before["seen"]
        found._sums["last"][:-1][saw] = theirs["last"][saw]
    return found
