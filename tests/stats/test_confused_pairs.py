"""Pairs of classes against fastai's expression, and merges against the matrix with the two as one."""

from __future__ import annotations

from operator import itemgetter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from stats.matrices import kappa, matrices

from lightning_debugkit.stats.confused_pairs import merge_candidates, most_confused
from lightning_debugkit.stats.confusion import Confusion


def fastais(matrix: np.ndarray, least: int) -> list[tuple[int, int, int]]:
    """``ClassificationInterpretation.most_confused`` of fastai 2.8, with numbers for names."""
    table = matrix.copy()
    np.fill_diagonal(table, 0)
    found = [(i, j, table[i, j]) for i, j in zip(*np.where(table >= least), strict=True)]
    return sorted(found, key=itemgetter(2), reverse=True)


@settings(deadline=None)
@given(matrix=matrices(), least=st.integers(1, 4))
def test_pairs_and_their_order_are_fastais(matrix: np.ndarray, least: int) -> None:
    found = most_confused(Confusion.of_matrix(matrix), least)
    assert [(pair.target, pair.predicted, pair.count) for pair in found] == fastais(matrix, least)


@settings(deadline=None)
@given(matrix=matrices())
def test_a_pair_has_its_share_and_what_comes_back(matrix: np.ndarray) -> None:
    for pair in most_confused(Confusion.of_matrix(matrix)):
        support = int(matrix[pair.target].sum())
        assert (pair.support, pair.reverse) == (support, matrix[pair.predicted, pair.target])
        bounds = binomtest(pair.count, support).proportion_ci(method="wilson")
        assert (pair.share, pair.low, pair.high) == pytest.approx((pair.count / support, bounds.low, bounds.high))


def test_the_diagonal_is_never_a_pair() -> None:
    assert most_confused(Confusion.of_matrix(np.diag([5, 3])), min_count=0) == []


def test_the_first_few_are_the_first_of_all() -> None:
    confusion = Confusion.of_matrix(np.random.default_rng(0).integers(0, 5, (8, 8)))
    assert most_confused(confusion, most=5) == most_confused(confusion)[:5]


def test_errors_that_fall_as_errors_in_general_do_have_a_lift_of_one() -> None:
    give, take = np.array([4.0, 1.0, 2.0, 3.0]), np.array([30.0, 10.0, 20.0, 40.0])
    matrix = np.outer(give, take).astype(np.int64)
    np.fill_diagonal(matrix, 1_000)
    assert [pair.lift for pair in most_confused(Confusion.of_matrix(matrix))] == pytest.approx([1.0] * 12)


def test_two_classes_can_only_be_taken_for_each_other() -> None:
    assert [pair.lift for pair in most_confused(Confusion.of_matrix([[9, 4], [1, 9]]))] == pytest.approx([1.0, 1.0])


def test_a_pair_that_attracts_each_other_has_a_lift_above_one() -> None:
    matrix = np.full((6, 6), 2)
    matrix[2, 4] = 40
    lifts = {(pair.target, pair.predicted): pair.lift for pair in most_confused(Confusion.of_matrix(matrix))}
    assert lifts[2, 4] > 1.1
    assert all(lift < 1 for (target, predicted), lift in lifts.items() if (target == 2) != (predicted == 4))


def test_a_class_that_takes_part_in_every_error_leaves_every_lift_finite() -> None:
    matrix = [[9, 5, 0], [3, 9, 0], [4, 0, 9]]
    assert all(0 < pair.lift < 10 for pair in most_confused(Confusion.of_matrix(matrix)))


def as_one(matrix: np.ndarray, first: int, second: int) -> np.ndarray:
    table = matrix.copy()
    table[first] += table[second]
    table[:, first] += table[:, second]
    return np.delete(np.delete(table, second, axis=0), second, axis=1)


@settings(deadline=None, max_examples=60)
@given(matrix=matrices(3, right=3))
def test_merges_are_the_pairs_of_the_matrix_that_is_merged_by_hand(matrix: np.ndarray) -> None:
    found = merge_candidates(Confusion.of_matrix(matrix), most=None)
    before, accuracy = kappa(matrix), np.trace(matrix) / matrix.sum()
    truth = {}
    for first in range(len(matrix)):
        for second in range(first + 1, len(matrix)):
            after = kappa(as_one(matrix, first, second))
            if matrix[first, second] + matrix[second, first] and abs(after - before) > 1e-9 and after > before:
                truth[first, second] = after
    got = {(merge.first, merge.second): merge.kappa_merged for merge in found if merge.kappa_merged - before > 1e-9}
    assert got == pytest.approx(truth)
    kappas = [merge.kappa_merged for merge in found]
    assert kappas == sorted(kappas, reverse=True)
    for merge in found:
        table = as_one(matrix, merge.first, merge.second)
        assert merge.accuracy_merged == pytest.approx(np.trace(table) / table.sum())
        assert (merge.kappa, merge.accuracy) == pytest.approx((before, accuracy))


def test_a_merge_tells_which_of_the_two_swallows_the_other() -> None:
    matrix = np.diag([50, 50, 50, 50])
    matrix[0, 1], matrix[2, 3], matrix[3, 2] = 20, 10, 10
    found = {(merge.first, merge.second): merge for merge in merge_candidates(Confusion.of_matrix(matrix))}
    assert {pair: merge.asymmetry for pair, merge in found.items()} == {(0, 1): 1.0, (2, 3): 0.0}
    assert (found[0, 1].count, found[0, 1].support) == (20, 120)


def test_two_classes_that_are_confused_less_than_by_chance_are_no_candidates() -> None:
    """Accuracy would rise with any merge; kappa does not."""
    matrix = np.array([[400, 1, 0], [1, 400, 0], [60, 60, 20]])
    assert (0, 1) not in {(merge.first, merge.second) for merge in merge_candidates(Confusion.of_matrix(matrix))}


def test_nothing_is_merged_where_nothing_is_confused_or_only_two_are_left() -> None:
    assert merge_candidates(Confusion.of_matrix(np.diag([3, 4, 5]))) == []
    assert merge_candidates(Confusion.of_matrix([[5, 4], [4, 5]])) == []
    assert merge_candidates(Confusion(4)) == []
