"""Folds: every sample once, classes spread evenly; and what their results say together."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from lightning_debugkit.stats.folds import across_folds, stratified_folds

labels = st.lists(st.integers(0, 4), min_size=2, max_size=60)


@settings(deadline=None)
@given(labels=labels, data=st.data())
def test_each_sample_is_held_out_once_and_classes_and_sizes_differ_by_one_at_most(
    labels: list[int], data: st.DataObject
) -> None:
    k = data.draw(st.integers(2, len(labels)))
    folds = stratified_folds(labels, k, seed=data.draw(st.integers(0, 9)))
    assert sorted(np.concatenate(folds).tolist()) == list(range(len(labels)))
    for counted in [[np.sum(np.array(labels)[fold] == label) for fold in folds] for label in set(labels)]:
        assert max(counted) - min(counted) <= 1
    sizes = [len(fold) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


def test_folds_follow_the_seed() -> None:
    def folds(seed: int) -> list[list[int]]:
        return [fold.tolist() for fold in stratified_folds(torch.arange(40) % 3, 4, seed)]

    assert folds(1) == folds(1) != folds(2)


@pytest.mark.parametrize("k", [1, 4])
def test_no_more_folds_than_samples(k: int) -> None:
    with pytest.raises(ValueError, match=f"stratified_folds needs 2 <= k <= 3 samples, got {k}; 5 is usual"):
        stratified_folds([0, 1, 0], k)


def test_the_interval_is_the_corrected_t_interval() -> None:
    values = np.array([0.1, 0.14, 0.2, 0.12, 0.15])
    error = values.std(ddof=1) * math.sqrt(1 / 5 + 1 / 4)
    found = across_folds(values, test_over_train=1 / 4)
    assert (found.low, found.high) == pytest.approx(t.interval(0.95, 4, values.mean(), error))
    assert found.n == 5


def test_models_that_share_samples_need_the_correction() -> None:
    """300 times ten folds of a linear classifier; what one trained on the 108 samples of a fold errs is known."""
    rng = np.random.default_rng(0)

    def problem(n: int) -> tuple[np.ndarray, np.ndarray]:
        x = rng.normal(size=(n, 5))
        return x, (x[:, 0] + rng.normal(size=n) > 0).astype(int)

    def error(x: np.ndarray, y: np.ndarray, held: np.ndarray, on: tuple[np.ndarray, np.ndarray] | None = None) -> float:
        rest = np.setdiff1d(np.arange(len(y)), held)
        weights = np.linalg.lstsq(x[rest], 2 * y[rest] - 1, rcond=None)[0]
        seen, wanted = (x[held], y[held]) if on is None else on
        return float(np.mean((seen @ weights > 0) != wanted))

    far = problem(2_000)
    corrected, plain, truths = [], [], []
    for _ in range(300):
        x, y = problem(120)
        folds = stratified_folds(y, 10)
        values = [error(x, y, fold) for fold in folds]
        corrected.append(across_folds(values, 1 / 9))
        plain.append(across_folds(values, 0.0))
        truths.append(error(x, y, folds[0], far))
    truth = float(np.mean(truths))
    share = [np.mean([found.low <= truth <= found.high for found in way]) for way in (corrected, plain)]
    assert share[0] >= 0.93
    assert share[0] > share[1]


@pytest.mark.parametrize(("values", "value"), [([], math.nan), ([0.3], 0.3)])
def test_one_fold_tells_nothing_of_the_spread(values: list[float], value: float) -> None:
    found = across_folds(values, 0.25)
    assert found.value == pytest.approx(value, nan_ok=True)
    assert found.side == "unknown"
