"""Resampling against scikit-learn, scipy and simulated runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import bootstrap, t
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, f1_score
from stats.coverage import RUNS, holds

from lightning_debugkit.stats.bootstrap import (
    Statistic,
    balanced_accuracy,
    bootstrap_confusion,
    bootstrap_groups,
    cohen_kappa,
    macro_f1,
)
from lightning_debugkit.stats.intervals import wilson

confusions = arrays(np.int64, st.integers(2, 5).map(lambda size: (size, size)), elements=st.integers(0, 30)).filter(
    lambda table: table.sum() > 0
)


def pairs(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The targets and predictions that a confusion matrix was counted from."""
    rows, columns = np.indices(confusion.shape)
    return np.repeat(rows.reshape(-1), confusion.reshape(-1)), np.repeat(columns.reshape(-1), confusion.reshape(-1))


@settings(max_examples=60, deadline=None)
@given(confusion=confusions)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
def test_macro_metrics_are_those_of_scikit_learn(confusion: np.ndarray) -> None:
    targets, predictions = pairs(confusion)
    margins = [part.astype(float) for part in (np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0))]
    assert macro_f1(*margins) == pytest.approx(f1_score(targets, predictions, average="macro", zero_division=0))
    assert balanced_accuracy(*margins) == pytest.approx(balanced_accuracy_score(targets, predictions))
    if len({*targets, *predictions}) > 1:
        assert cohen_kappa(*margins) == pytest.approx(cohen_kappa_score(targets, predictions))


def expanded(units: int) -> float:
    """The level that widens a bootstrap's tails as Student's t does."""
    return 1 - 2 * NormalDist().cdf(-math.sqrt(units / (units - 1)) * t.ppf(0.975, units - 1))


def recall(table: np.ndarray) -> float:
    return float(np.mean(np.diagonal(table) / table.sum(axis=1)))


def f1(table: np.ndarray) -> float:
    both = table.sum(axis=0) + table.sum(axis=1)
    return float(np.mean((2 * np.diagonal(table))[both > 0] / both[both > 0]))


@pytest.mark.parametrize(
    ("confusion", "statistic", "slow"),
    [
        ([[95, 12, 5], [8, 70, 22], [3, 25, 60]], macro_f1, f1),
        ([[12, 3, 0], [2, 6, 1], [1, 2, 3]], macro_f1, f1),
        ([[30, 6], [3, 21]], balanced_accuracy, recall),
    ],
)
def test_the_interval_of_a_confusion_matrix_is_scipys_of_its_samples(
    confusion: list[list[int]], statistic: Statistic, slow: Callable[[np.ndarray], float]
) -> None:
    """Scipy draws single samples and leaves each out once; here cells are drawn, and one left out of each kind."""
    table = np.array(confusion)
    size, n = len(table), int(table.sum())
    reference = bootstrap(
        pairs(table),
        lambda targets, predictions: slow(
            np.bincount(size * targets + predictions, minlength=size**2).reshape(size, size)
        ),
        paired=True,
        vectorized=False,
        n_resamples=20_000,
        confidence_level=expanded(n),
        method="BCa",
        random_state=np.random.default_rng(1),
    ).confidence_interval
    found = bootstrap_confusion(torch.from_numpy(table), statistic, replicates=100_000)
    width = reference.high - reference.low
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=0.02 * width)
    assert found.n == n


def test_the_interval_of_groups_is_scipys() -> None:
    totals, sizes = np.array([2, 1, 3, 1, 4, 2, 5, 12, 30]), np.array([9, 10, 11, 9, 10, 8, 10, 20, 35])

    def statistic(totals: np.ndarray, sizes: np.ndarray, axis: int = -1) -> np.ndarray:
        return totals.sum(axis) / sizes.sum(axis)

    reference = bootstrap(
        (totals, sizes),
        statistic,
        paired=True,
        n_resamples=20_000,
        confidence_level=expanded(9),
        method="BCa",
        random_state=np.random.default_rng(3),
    ).confidence_interval
    found = bootstrap_groups(totals, sizes, replicates=20_000)
    width = reference.high - reference.low
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=0.02 * width)
    assert (found.value, found.n) == (totals.sum() / sizes.sum(), sizes.sum())


JOINT = np.array([[0.42, 0.05, 0.03], [0.04, 0.24, 0.02], [0.03, 0.03, 0.14]])


@pytest.mark.parametrize("statistic", [macro_f1, balanced_accuracy, cohen_kappa])
def test_the_interval_of_a_macro_metric_holds_it_in_95_of_100_runs(statistic: Statistic) -> None:
    rng = np.random.default_rng(4)
    truth = float(statistic(np.diagonal(JOINT), JOINT.sum(axis=1), JOINT.sum(axis=0)))
    runs = rng.multinomial(500, JOINT.reshape(-1), RUNS).reshape(-1, 3, 3)
    assert 0.93 <= holds((bootstrap_confusion(run, statistic, replicates=500) for run in runs), truth) <= 0.97


def patients(rng: np.random.Generator, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Groups of about 20 samples; the error of a group is one tenth on average, and 0.09 its standard deviation."""
    sizes = rng.poisson(20, groups) + 1
    return rng.binomial(sizes, rng.beta(0.9, 8.1, groups)), sizes


def test_the_interval_of_grouped_samples_holds_the_error_in_95_of_100_runs_and_wilsons_does_not() -> None:
    rng = np.random.default_rng(5)
    runs = [patients(rng, groups=50) for _ in range(RUNS)]
    assert 0.93 <= holds((bootstrap_groups(*run) for run in runs), 0.1) <= 0.97
    assert holds((wilson(int(totals.sum()), int(sizes.sum())) for totals, sizes in runs), 0.1) < 0.8


def test_each_sample_a_group_of_its_own_is_an_interval_of_a_rate() -> None:
    wrong = np.zeros(1_000)
    wrong[:100] = 1
    found, reference = bootstrap_groups(wrong, np.ones(1_000), replicates=5_000), wilson(100, 1_000)
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=0.004)


def test_the_same_seed_draws_the_same_and_leaves_other_draws_alone() -> None:
    before = np.random.get_state()[1].tolist()
    table = [[40, 10], [5, 45]]
    one, same = bootstrap_confusion(table, macro_f1, seed=1), bootstrap_confusion(table, macro_f1, seed=1)
    assert one == same
    assert one != bootstrap_confusion(table, macro_f1, seed=2)
    assert np.random.get_state()[1].tolist() == before


def test_a_matrix_drawn_in_pieces_is_that_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many classes not all draws fit into memory together."""
    table = np.random.default_rng(7).integers(0, 9, (6, 6))
    whole = bootstrap_confusion(table, macro_f1)
    monkeypatch.setattr("lightning_debugkit.stats.bootstrap._CHUNK", 100)
    assert bootstrap_confusion(table, macro_f1) == whole


@pytest.mark.parametrize(
    ("table", "value"),
    [([[50, 0], [0, 50]], 1.0), ([[9, 0], [0, 0]], 1.0), ([[1, 0], [0, 0]], 1.0), ([[0, 5], [7, 0]], 0.0)],
)
def test_where_nothing_varies_nothing_is_claimed(table: list[list[int]], value: float) -> None:
    """No mistake among 100 is no proof that there are none: every draw would say so."""
    found = bootstrap_confusion(table, balanced_accuracy)
    assert found.value == value
    assert found.side == "unknown"


@pytest.mark.parametrize(
    ("totals", "sizes", "value"),
    [([], [], math.nan), ([3], [10], 0.3), ([0, 0, 0], [5, 6, 7], 0.0), ([1, 2], [2, 4], 0.5)],
)
def test_groups_that_do_not_differ_tell_nothing(totals: list[int], sizes: list[int], value: float) -> None:
    found = bootstrap_groups(totals, sizes)
    assert found.value == pytest.approx(value, nan_ok=True)
    assert found.side == "unknown"


@pytest.mark.parametrize("table", [[1, 2], [[1, 2, 3], [4, 5, 6]], [[-1, 2], [3, 4]], [[0, 0], [0, 0]]])
def test_a_confusion_matrix_is_square_and_counts(table: list[int]) -> None:
    with pytest.raises(ValueError, match="bootstrap_confusion needs a square matrix of counts"):
        bootstrap_confusion(table, macro_f1)


@pytest.mark.parametrize(("totals", "sizes"), [([1], [1, 2]), ([0, 1], [0, 2])])
def test_each_group_has_samples(totals: list[int], sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="needs a total and a positive size of each group"):
        bootstrap_groups(totals, sizes)
