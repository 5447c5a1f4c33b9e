"""All that a verdict rests on: errors with their bounds, the goal, the run's own habits and its past."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lightning_debugkit.evaluation.bias_variance.training_facts import TrainingFacts
from lightning_debugkit.evaluation.bias_variance.units_of_error import Unit
from lightning_debugkit.stats.error_gaps import Gap, decompose
from lightning_debugkit.stats.exact_tests import could_be_chance
from lightning_debugkit.stats.intervals import Interval, Side, difference_interval, exact

SPLITS = ("train", "train_dev", "val", "test")


@dataclass(frozen=True)
class EarlierErrors:
    """What was measured at one moment of the run."""

    epoch: int
    step: int
    errors: Mapping[str, Interval]


@dataclass(frozen=True)
class BiasVarianceCase:
    """One set of weights under judgement."""

    unit: Unit  # how the metric is called and written
    errors: Mapping[str, Interval]  # the metric on each split that was measured
    goal: Interval | None = None  # what could be reached, `None` if nobody has said
    ideal: float | None = 0.0  # the best value that the metric can have, `None` if it has none
    higher_is_better: bool = False  # whether larger values are better
    facts: TrainingFacts = field(default_factory=TrainingFacts)  # what the run already does
    # samples and wrong samples of each class, by split
    by_class: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    broken: Mapping[str, int] = field(default_factory=dict)  # samples with predictions that are not finite, by split
    choices: int = 1  # models that were compared on the validation data before this one was taken
    past: Sequence[EarlierErrors] = ()  # the moments of the run, in order
    # the metric as it was logged in training, averaged while the weights moved; `None` if it was not
    running: tuple[str, float] | None = None
    train_samples: int | None = None  # training samples there are, of which `errors["train"].n` were looked at
    notes: Sequence[str] = ()  # what the reader should know of how things were measured

    @property
    def chain(self) -> dict[str, Interval]:
        """The errors that the decomposition is made of, in its order."""
        return {name: self.errors[name] for name in SPLITS if name in self.errors}

    @property
    def start(self) -> Interval | None:
        """The goal, or the metric's best value where none is stated."""
        if self.goal is not None:
            return self.goal
        return None if self.ideal is None else exact(self.ideal)

    @property
    def gaps(self) -> dict[str, Gap]:
        """The parts of the last error; without a goal, avoidable bias is an upper bound."""
        return decompose(self.chain, self.start, self.higher_is_better)

    def worse(self, after: Interval, before: Interval) -> Interval:
        """Return by how much ``after`` is worse than ``before``."""
        return difference_interval(-after, -before) if self.higher_is_better else difference_interval(after, before)

    def side(self, gap: Gap) -> Side:
        """Return what the samples tell of the sign of a gap; few of them are no proof, whatever the interval says."""
        if gap.side != "above" or not self.unit.is_rate or not gap.after.n:
            return gap.side
        counts = (round(gap.after.value * gap.after.n), gap.after.n)
        if gap.before.n:
            chance = could_be_chance(*counts, round(gap.before.value * gap.before.n), gap.before.n)
        else:
            chance = could_be_chance(*counts, rate=gap.before.value)
        return "across" if chance else "above"

    @property
    def distance(self) -> Gap | None:
        """How far the last error is from the stated goal."""
        if self.goal is None or not self.chain:
            return None
        name, last = list(self.chain.items())[-1]
        return Gap(self.worse(last, self.goal), self.goal, last, "goal", name)

    @property
    def is_missed(self) -> bool:
        """Whether a stated goal is missed beyond doubt."""
        return self.distance is not None and self.side(self.distance) == "above"

    @property
    def is_reached(self) -> bool:
        """Whether a stated goal is reached beyond doubt."""
        return self.distance is not None and self.distance.high <= 0
