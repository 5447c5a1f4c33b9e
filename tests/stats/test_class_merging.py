"""The worth of a merge is scikit-learn's kappa, and its intervals are those of drawing the samples anew."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from stats.matrices import kappa, matrices

from lightning_debugkit.stats.class_merging import Worth, worth_of_merging
from lightning_debugkit.stats.confusion import Confusion


def as_one(matrix: np.ndarray) -> np.ndarray:
    """Classes 0 and 1 as one."""
    onto = np.eye(matrix.shape[-1])[1:]
    onto[0, 0] = 1
    return onto @ matrix @ onto.T


def by_hand(matrix: np.ndarray) -> tuple[float, float, float]:
    return kappa(matrix), kappa(as_one(matrix)) - kappa(matrix), kappa(matrix[:2, :2])


def kappas(matrices: np.ndarray) -> np.ndarray:
    """(n, classes, classes) -> (n,): Cohen's formula."""
    share = matrices / matrices.sum((1, 2), keepdims=True)
    agree, chance = share.trace(axis1=1, axis2=2), (share.sum(1) * share.sum(2)).sum(1)
    return (agree - chance) / (1 - chance)


def parts(worth: Worth) -> list[float]:
    return [part.value for part in (worth.kappa, worth.rise, worth.apart)]


@settings(deadline=None, max_examples=40)
@given(matrix=matrices(3, right=2))
def test_the_values_are_scikit_learns(matrix: np.ndarray) -> None:
    assert parts(worth_of_merging(Confusion.of_matrix(matrix), 0, 1)) == pytest.approx(by_hand(matrix), abs=1e-9)


@pytest.mark.parametrize("confused", [5, 40, 90])
def test_the_intervals_are_as_wide_as_samples_drawn_anew_differ(confused: int) -> None:
    matrix = np.array([[200 - confused, confused, 10], [confused, 160 - confused, 12], [9, 8, 300]])
    random = np.random.default_rng(0)
    drawn = random.multinomial(matrix.sum(), (matrix / matrix.sum()).ravel(), size=2000).reshape(-1, 3, 3)
    before, after, apart = (kappas(tables) for tables in (drawn, as_one(drawn), drawn[:, :2, :2]))
    spread = [before.std(), (after - before).std(), apart.std()]
    worth = worth_of_merging(Confusion.of_matrix(matrix), 0, 1)
    wide = [(part.high - part.low) / 2 / 1.96 for part in (worth.kappa, worth.rise, worth.apart)]
    assert wide == pytest.approx(spread, rel=0.06)


def test_answers_that_go_together_weigh_as_much_as_there_are_independent_ones() -> None:
    matrix = np.array([[60, 30, 0], [25, 50, 5], [3, 0, 80]])
    once = worth_of_merging(Confusion.of_matrix(matrix), 0, 1)
    pixels = worth_of_merging(Confusion.of_matrix(100 * matrix), 0, 1, weight=0.01)
    assert (pixels.rise.low, pixels.apart.high) == pytest.approx((once.rise.low, once.apart.high))


def test_of_two_that_nobody_answers_nothing_is_known() -> None:
    worth = worth_of_merging(Confusion.of_matrix([[0, 0, 5], [0, 0, 5], [0, 0, 9]]), 0, 1)
    assert all(math.isnan(number) for number in (worth.apart.value, worth.apart.low, worth.apart.high))
