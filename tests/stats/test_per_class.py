"""Scores of classes against scikit-learn and simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_fscore_support
from stats.coverage import RUNS, holds
from stats.matrices import matrices

from lightning_debugkit.stats.confusion import Confusion
from lightning_debugkit.stats.per_class import per_class


@settings(deadline=None)
@given(matrix=matrices())
def test_scores_are_scikit_learns(matrix: np.ndarray) -> None:
    rows, columns = (np.repeat(part.reshape(-1), matrix.reshape(-1)) for part in np.indices(matrix.shape))
    labels = range(len(matrix))
    truth = (
        precision_recall_fscore_support(rows, columns, labels=labels, zero_division=np.nan)
        if len(rows)
        else [np.full(len(matrix), np.nan)] * 3 + [np.zeros(len(matrix))]
    )
    found = per_class(Confusion.of_matrix(matrix))
    assert [score.label for score in found] == list(labels)
    assert [score.support for score in found] == truth[3].tolist()
    assert [score.predicted_count for score in found] == matrix.sum(axis=0).tolist()
    for score, precision, recall, f1 in zip(found, *truth[:3], strict=True):
        assert score.precision.value == pytest.approx(precision, nan_ok=True)
        assert score.recall.value == pytest.approx(recall, nan_ok=True)
        assert score.f1.value == pytest.approx(f1, nan_ok=True)
        for interval in (score.precision, score.recall, score.f1):
            assert math.isnan(interval.value) or interval.low <= interval.value + 1e-12 <= interval.high + 2e-12


def test_bounds_of_precision_and_recall_are_wilsons() -> None:
    first = per_class(Confusion.of_matrix([[8, 2], [4, 6]]))[0]
    for interval, n in ((first.recall, 10), (first.precision, 12)):
        bounds = binomtest(8, n).proportion_ci(method="wilson")
        assert (interval.low, interval.high, interval.n) == pytest.approx((bounds.low, bounds.high, n))


def test_a_class_that_is_neither_seen_nor_predicted_leaves_everything_open() -> None:
    score = per_class(Confusion.of_matrix([[3, 0], [0, 0]]))[1]
    for interval in (score.precision, score.recall, score.f1):
        assert math.isnan(interval.value)
        assert (interval.low, interval.high) == (0.0, 1.0)


def test_a_class_that_is_never_predicted_has_support_and_no_predictions() -> None:
    score = per_class(Confusion.of_matrix([[5, 0], [3, 0]]))[1]
    assert (score.support, score.predicted_count, score.recall.value, score.f1.value) == (3, 0, 0.0, 0.0)


@pytest.mark.parametrize(("n", "recall", "false"), [(300, 0.9, 0.02), (2_000, 0.6, 0.1)])
def test_the_interval_of_f1_holds_it_in_95_of_100_runs(n: int, recall: float, false: float) -> None:
    """Samples are drawn, a tenth of them of the class: hits, misses and false alarms are multinomial."""
    shares = np.array([0.1 * recall, 0.1 * (1 - recall), 0.9 * false, 0.9 * (1 - false)])
    truth = 2 * shares[0] / (2 * shares[0] + shares[1] + shares[2])
    drawn = np.random.default_rng(0).multinomial(n, shares, size=RUNS)
    intervals = [per_class(Confusion.of_matrix([[a, b], [c, d]]))[0].f1 for a, b, c, d in drawn]
    assert 0.93 <= holds(intervals, truth) <= 0.97
