"""Counts of targets and predictions against scikit-learn, however they arrive."""

from __future__ import annotations

import copy
import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from lightning_debugkit.stats.confusion import DENSE, Confusion

samples = st.integers(1, 6).flatmap(
    lambda classes: st.tuples(
        st.just(classes),
        st.lists(st.tuples(st.integers(0, classes - 1), st.integers(0, classes - 1)), max_size=60),
        st.integers(1, 9),
    )
)


def pairs(n: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Targets, and predictions that are mostly right."""
    make = torch.Generator().manual_seed(seed)
    target = torch.randint(classes, (n,), generator=make)
    other = torch.randint(classes, (n,), generator=make)
    return target, torch.where(torch.rand(n, generator=make) < 0.8, target, other)


def counted(classes: int, target: torch.Tensor, predicted: torch.Tensor, batch: int = 128) -> Confusion:
    confusion = Confusion(classes)
    for one, other in zip(target.split(batch), predicted.split(batch), strict=True):
        confusion.update(one, other)
    return confusion


@pytest.mark.parametrize("batch", [1, 100, 70_000])
@pytest.mark.parametrize("classes", [2, 10])
def test_counts_are_scikit_learns(classes: int, batch: int) -> None:
    target, predicted = pairs(3_000 if batch == 1 else 200_001, classes)
    found = counted(classes, target, predicted, batch)
    assert np.array_equal(found.dense(), confusion_matrix(target, predicted, labels=range(classes)))
    assert found.total == len(target)
    assert found.correct == int((target == predicted).sum())


@pytest.mark.parametrize("classes", [DENSE, DENSE + 1, 100_000])
def test_many_classes_are_counted_as_exactly_as_few(classes: int) -> None:
    target, predicted = pairs(300_000, classes)
    found = counted(classes, target, predicted, batch=1024)
    truth = sorted(
        (*cell, count) for cell, count in Counter(zip(target.tolist(), predicted.tolist(), strict=True)).items()
    )
    assert found.counts() == truth
    assert np.array_equal(found.support, np.bincount(target, minlength=classes))
    assert np.array_equal(found.predicted_count, np.bincount(predicted, minlength=classes))
    assert np.array_equal(found.hits, np.bincount(target[target == predicted], minlength=classes))


@settings(deadline=None)
@given(case=samples, cut=st.integers(0, 60))
def test_parts_that_are_merged_are_the_whole(case: tuple[int, list[tuple[int, int]], int], cut: int) -> None:
    classes, cells, batch = case
    target, predicted = torch.tensor(cells, dtype=torch.int64).reshape(-1, 2).unbind(1)
    whole = counted(classes, target, predicted, batch)
    part, other = (
        counted(classes, target[half], predicted[half], batch) for half in (slice(None, cut), slice(cut, None))
    )
    part.merge(other)
    assert part.counts() == whole.counts()
    assert sum(count for *_, count in whole.counts()) == len(cells)


def test_a_small_matrix_merges_with_a_sparse_one() -> None:
    few, many = pairs(500, 5), pairs(500, 9_000, seed=1)
    one, other = counted(5, *few), counted(9_000, *many)
    one.merge(other)
    both = counted(9_000, torch.cat([few[0], many[0]]), torch.cat([few[1], many[1]]))
    assert one.classes == 9_000
    assert one.counts() == both.counts()


@pytest.mark.parametrize("beyond", [12, DENSE + 5])
def test_it_grows_when_a_class_beyond_is_met(beyond: int) -> None:
    confusion = Confusion(3)
    confusion.update(torch.tensor([0, 2]), torch.tensor([1, 2]))
    assert confusion.classes == 3
    confusion.update(torch.tensor([beyond, 2]), torch.tensor([1, beyond]))
    assert confusion.classes == beyond + 1
    assert confusion.counts() == [(0, 1, 1), (2, 2, 1), (2, beyond, 1), (beyond, 1, 1)]


def test_a_sample_that_is_of_no_class_is_left_out_and_counted() -> None:
    confusion = Confusion(3)
    confusion.update(torch.tensor([0, -100, 2, 1 << 40]), torch.tensor([0, 1, -1, 1]))
    assert confusion.counts() == [(0, 0, 1)]
    assert confusion.outside == 3
    assert confusion.classes == 3


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.bool])
def test_narrow_integers_do_not_overflow(dtype: torch.dtype) -> None:
    """A class of 200 times 201 classes is more than 16 bits hold."""
    high = {torch.bool: 2, torch.int8: 127}.get(dtype, 201)
    target, predicted = pairs(5_000, high)
    found = counted(high, target.to(dtype), predicted.to(dtype))
    assert np.array_equal(found.dense(), confusion_matrix(target, predicted, labels=range(high)))


def test_pixels_count_as_samples() -> None:
    target, predicted = pairs(2 * 16 * 16, 4)
    confusion = Confusion(4)
    confusion.update(target.reshape(2, 16, 16), predicted.reshape(2, 16, 16))
    assert np.array_equal(confusion.dense(), confusion_matrix(target, predicted, labels=range(4)))


def test_algorithms_that_must_be_deterministic_do() -> None:
    target, predicted = pairs(3_000, 10)
    torch.use_deterministic_algorithms(True)
    try:
        found, sparse = counted(10, target, predicted), counted(5_000, target, predicted)
        assert found.counts() == sparse.counts()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("classes", [7, 5_000])
def test_its_state_and_its_copies_count_on(classes: int) -> None:
    target, predicted = pairs(1_000, classes)
    whole = counted(classes, target, predicted)
    first = counted(classes, target[:600], predicted[:600])
    for again in (Confusion.of(first.state()), copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        again.update(target[600:], predicted[600:])
        assert again.counts() == whole.counts()


def test_nothing_seen_is_an_empty_matrix() -> None:
    confusion = Confusion(3)
    confusion.update(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))
    assert (confusion.total, confusion.correct, confusion.counts()) == (0, 0, [])
    assert confusion.support.tolist() == [0, 0, 0]


def test_a_matrix_is_read_back() -> None:
    matrix = [[3, 0, 1], [0, 0, 0], [2, 5, 4]]
    assert Confusion.of_matrix(matrix).dense().tolist() == matrix


@pytest.mark.parametrize("matrix", [[[1, 2]], [[1, -1], [0, 1]]])
def test_counts_that_are_none_are_refused(matrix: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="Confusion needs a square matrix of counts"):
        Confusion.of_matrix(matrix)


def test_soft_targets_are_refused_with_what_was_seen() -> None:
    with pytest.raises(ValueError, match=r"got float32\[2, 3\] targets and int64\[2\] predictions"):
        Confusion(3).update(torch.ones(2, 3), torch.ones(2, dtype=torch.int64))


def test_classes_are_at_least_one() -> None:
    with pytest.raises(ValueError, match="Confusion needs classes >= 1, got 0; give the width of the model's output"):
        Confusion(0)
