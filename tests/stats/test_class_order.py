"""The order of classes against planted groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_debugkit.stats.class_order import confused_together, likeness


def planted(groups: int, size: int, seed: int, noise: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A confusion matrix of groups of classes that are confused within, in any order, and the group of each."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(groups), size))
    matrix = rng.integers(0, noise + 1, (len(group), len(group)))
    matrix += np.where(group[:, None] == group, rng.integers(8, 15, matrix.shape), 0)
    return matrix + 100 * np.eye(len(group), dtype=np.int64), group


@settings(deadline=None, max_examples=30)
@given(groups=st.integers(2, 6), size=st.integers(2, 5), seed=st.integers(0, 99))
def test_classes_that_are_confused_stand_together(groups: int, size: int, seed: int) -> None:
    matrix, group = planted(groups, size, seed)
    ordered = group[confused_together(matrix)]
    assert (ordered[1:] != ordered[:-1]).sum() == groups - 1


@settings(deadline=None)
@given(
    matrix=st.integers(1, 7).flatmap(
        lambda n: st.lists(st.lists(st.integers(0, 3), min_size=n, max_size=n), min_size=n, max_size=n)
    )
)
def test_every_class_has_its_place_and_those_confused_with_none_are_last(matrix: list[list[int]]) -> None:
    order, table = confused_together(matrix), np.array(matrix)
    assert sorted(order) == list(range(len(matrix)))
    mistakes = table - np.diag(np.diag(table))
    alone = [label for label in range(len(matrix)) if not mistakes[label].any() and not mistakes[:, label].any()]
    assert order[len(order) - len(alone) :] == alone


def test_a_thousand_classes_of_which_two_hundred_groups_are_confused_are_put_together() -> None:
    matrix, group = planted(200, 5, 0, noise=0)
    ordered = group[confused_together(matrix)]
    assert (ordered[1:] != ordered[:-1]).sum() == 199


def test_likeness_is_of_shares_not_of_counts() -> None:
    """A rare class of which half is confused is more like the other than one of which a hundredth is."""
    alike = likeness([[990, 10, 0], [5, 5, 0], [0, 0, 7]])
    assert alike[0, 1] == pytest.approx(0.01 + 0.5)
    assert alike[2].tolist() == [0, 0, 0]


@settings(deadline=None)
@given(st.permutations(range(4)))
def test_a_join_puts_the_ends_together_that_are_confused_most(places: list[int]) -> None:
    """Two pairs, of which one member each is confused with one of the other pair."""
    matrix = np.zeros((4, 4), dtype=np.int64)
    first, second, third, fourth = places
    matrix[first, second], matrix[third, fourth], matrix[second, third] = 40, 30, 5
    matrix += 100 * np.eye(4, dtype=np.int64)
    assert confused_together(matrix) in ([first, second, third, fourth], [fourth, third, second, first])
