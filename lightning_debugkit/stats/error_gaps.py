"""From goal to training, validation and test error: how much each step adds, and what the samples can tell of it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from lightning_debugkit.stats.intervals import Interval, Side, difference_interval

GAPS = ("avoidable_bias", "variance", "distribution_shift", "validation_overfitting")

_NAMES = {
    ("goal", "train"): "avoidable_bias",
    ("train", "train_dev"): "variance",
    ("train", "val"): "variance",
    ("train_dev", "val"): "distribution_shift",
    ("val", "test"): "validation_overfitting",
    # Without a validation set nothing was chosen on one: the test set stands in its place.
    ("train", "test"): "variance",
    ("train_dev", "test"): "distribution_shift",
}


@dataclass(frozen=True)
class Gap:
    """What one step from ``frm`` to ``to`` adds to the error: positive means worse, whatever the metric."""

    interval: Interval  # the gap and its bounds
    before: Interval  # the error that the step starts from
    after: Interval  # the error that it ends at
    frm: str  # name of the former: goal, train, train_dev or val
    to: str  # name of the latter

    @property
    def value(self) -> float:
        return self.interval.value

    @property
    def low(self) -> float:
        return self.interval.low

    @property
    def high(self) -> float:
        return self.interval.high

    @property
    def side(self) -> Side:
        return self.interval.side


def decompose(
    errors: Mapping[str, Interval], goal: Interval | None = None, higher_is_better: bool = False
) -> dict[str, Gap]:
    """Split the last error into goal, avoidable bias, variance, distribution shift and validation overfitting.

    A step whose ends are not both there is left out. The values of the others sum to the last error less the first,
    where no step is missing between them. "Variance" is the step from training to held-out data of the same
    distribution, not the variance of a statistic.

    Args:
        errors: Errors of ``train``, ``train_dev``, ``val`` and ``test``, as far as they are known.
        goal: What could be reached: human or Bayes error. Nothing is assumed without one.
        higher_is_better: For scores such as accuracy; the gaps are positive all the same where things get worse.

    >>> from lightning_debugkit.stats.intervals import exact
    >>> errors = {"train": exact(20.0), "val": exact(27.0), "test": exact(28.0)}
    >>> {name: gap.value for name, gap in decompose(errors, goal=exact(1.0)).items()}
    {'avoidable_bias': 19.0, 'variance': 7.0, 'validation_overfitting': 1.0}

    References:
        Ng, Machine Learning Yearning, 2018, chapters 20-22 and 40-41. Tobin, Full Stack Deep Learning, 2019,
        Troubleshooting Deep Neural Networks: the bias-variance decomposition of the test error.
    """
    known = {"goal": goal, **{name: errors.get(name) for name in ("train", "train_dev", "val", "test")}}
    unknown = set(errors) - set(known)
    if unknown:
        raise ValueError(f"decompose needs errors of train, train_dev, val or test, got {sorted(unknown)!r}.")
    there = [(name, error) for name, error in known.items() if error is not None]
    gaps = {}
    for (frm, before), (to, after) in itertools.pairwise(there):
        if (frm, to) in _NAMES:
            worse = difference_interval(before, after) if higher_is_better else difference_interval(after, before)
            gaps[_NAMES[frm, to]] = Gap(worse, before, after, frm, to)
    return gaps
