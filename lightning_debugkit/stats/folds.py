"""Cross-validation: which samples each fold holds out, and what its results say together."""

from __future__ import annotations

import math

import numpy as np

from lightning_debugkit.stats.arrays import Integers, Numbers, floats
from lightning_debugkit.stats.intervals import Interval, bare_interval, student_reach


def stratified_folds(labels: Numbers, k: int, seed: int = 0) -> list[Integers]:
    """Return the samples that each of ``k`` folds holds out: every one once, the classes spread evenly.

    Args:
        labels: (samples,) the class of each; anything that can be sorted. All the same label: plain folds.
        seed: Of the order within a class.

    >>> [sorted((fold % 2).tolist()) for fold in stratified_folds([0, 1, 0, 1, 0, 1], k=3)]
    [[0, 1], [0, 1], [0, 1]]
    """
    classes = np.unique(np.asarray(labels), return_inverse=True)[1].reshape(-1)
    if not 2 <= k <= len(classes):
        raise ValueError(f"stratified_folds needs 2 <= k <= {len(classes)} samples, got {k!r}; 5 is usual.")
    shuffled = np.random.default_rng(seed).permutation(len(classes))
    # Dealt out like cards, class after class: no fold has two more of a class, or two more in all, than another.
    dealt = shuffled[np.argsort(classes[shuffled], kind="stable")]
    return [np.sort(dealt[fold::k]).astype(np.int64) for fold in range(k)]


def across_folds(values: Numbers, test_over_train: float) -> Interval:
    """Return the mean result of the folds, with a 95 % interval that knows that they share training samples.

    Args:
        values: (folds,) one result each.
        test_over_train: Held-out samples of a fold over those it is trained on: ``1 / (k - 1)``.

    >>> found = across_folds([0.1, 0.2, 0.3], test_over_train=0.5)
    >>> found.value, found.high - found.value  # 4.303 * 0.1 * sqrt(1 / 3 + 1 / 2)
    (0.2, 0.3928)

    References:
        Nadeau and Bengio, Inference for the Generalization Error, 2003: the factor ``1 / k`` of the
        variance becomes ``1 / k + n2 / n1``.
    """
    results = floats(values)
    if results.size < 2:
        return bare_interval(float(results.mean()) if results.size else math.nan, results.size)
    error = math.sqrt(float(results.var(ddof=1)) * (1 / results.size + test_over_train))
    return Interval.around(float(results.mean()), student_reach(0.95, results.size - 1) * error, results.size)
