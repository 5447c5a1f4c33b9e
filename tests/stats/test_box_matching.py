"""Boxes that are matched against a loop over all pairs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_debugkit.stats.box_matching import match_boxes, overlap
from lightning_debugkit.stats.confusion import Confusion

box = st.tuples(*[st.integers(0, 6)] * 4).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
boxes = st.lists(st.tuples(box, st.integers(0, 2), st.integers(0, 10)), max_size=6)


def image(rows: list[tuple[tuple[int, ...], int, int]]) -> dict[str, torch.Tensor]:
    return {
        "boxes": torch.tensor([row[0] for row in rows], dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor([row[1] for row in rows], dtype=torch.int64),
        "scores": torch.tensor([row[2] / 10 for row in rows]),
    }


def cells(corners: tuple[int, ...]) -> set[tuple[int, int]]:
    return {(x, y) for x in range(corners[0], corners[2]) for y in range(corners[1], corners[3])}


def shared(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Overlap by counting unit squares."""
    both, either = cells(one) & cells(other), cells(one) | cells(other)
    return len(both) / len(either) if both else 0.0


@settings(deadline=None)
@given(one=st.lists(box, max_size=5), other=st.lists(box, max_size=5))
def test_overlap_is_that_of_counted_squares(one: list[tuple[int, ...]], other: list[tuple[int, ...]]) -> None:
    found = overlap(*(torch.tensor(part, dtype=torch.float32).reshape(-1, 4) for part in (one, other)))
    for row, first in enumerate(one):
        for column, second in enumerate(other):
            assert float(found[row, column]) == pytest.approx(shared(first, second))


@settings(deadline=None)
@given(predicted=boxes, target=boxes)
def test_matches_are_those_of_a_loop(predicted: list, target: list) -> None:
    found = match_boxes(image(predicted), image(target), iou=0.4, score=0.35)
    free, truth, false = set(range(len(target))), [], []
    rows = [row for row in range(len(predicted)) if predicted[row][2] >= 4]
    for row in sorted(rows, key=lambda row: -predicted[row][2]):
        ranked = [
            (-shared(predicted[row][0], target[k][0]), target[k][1] != predicted[row][1], k)
            for k in free
            if shared(predicted[row][0], target[k][0]) >= 0.4 - 1e-12
        ]
        if ranked:
            free.remove(min(ranked)[2])
            truth.append((target[min(ranked)[2]][1], predicted[row][1]))
        else:
            false.append((-1, predicted[row][1]))
    truth += [(target[k][1], -1) for k in sorted(free)] + false
    assert list(zip(found.target.tolist(), found.predicted.tolist(), strict=True)) == truth


@settings(deadline=None)
@given(predicted=boxes, target=boxes)
def test_every_box_is_in_one_pair(predicted: list, target: list) -> None:
    found = match_boxes(image(predicted), image(target), score=0.0)
    assert sorted(label for label in found.target.tolist() if label >= 0) == sorted(row[1] for row in target)
    assert sorted(row for row in found.predicted_box.tolist() if row >= 0) == list(range(len(predicted)))


def test_background_is_a_class_of_the_confusion() -> None:
    one, other = ((0, 0, 4, 4), 0, 9), ((10, 10, 14, 14), 1, 9)
    confusion = Confusion(3)
    pairs = match_boxes(image([one, ((20, 20, 24, 24), 1, 9)]), image([one, other]), background=2)
    confusion.update(pairs.target, pairs.predicted)
    assert confusion.counts() == [(0, 0, 1), (1, 2, 1), (2, 1, 1)]


def test_a_target_is_matched_once_and_by_the_surest() -> None:
    place = (0, 0, 4, 4)
    found = match_boxes(image([(place, 1, 6), (place, 0, 9)]), image([(place, 1, 0)]))
    assert (found.target.tolist(), found.predicted.tolist()) == ([1, -1], [0, 1])


def test_an_image_without_boxes_has_no_pairs() -> None:
    assert len(match_boxes(image([]), image([])).target) == 0
