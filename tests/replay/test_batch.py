"""Batches of all shapes: their leaves, their size, and parts of them."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

from lightning_debugkit.replay.batch import batch_size, leaves, take

Pair = namedtuple("Pair", ["x", "y"])
X, Y = torch.arange(12.0).view(4, 3), torch.tensor([10, 11, 12, 13])


def plain(tree: Any) -> Any:
    """Tensors as lists, so that trees can be compared."""
    if isinstance(tree, Tensor):
        return tree.tolist()
    if isinstance(tree, dict):
        return {key: plain(item) for key, item in tree.items()}
    if isinstance(tree, list | tuple):
        items = [plain(item) for item in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    return tree


def test_leaves_are_named_by_their_path() -> None:
    batch = {"image": 1, "targets": [2, {"boxes": 3}], "pair": Pair(4, (5,))}
    paths = dict(leaves(batch))
    assert paths == {"image": 1, "targets.0": 2, "targets.1.boxes": 3, "pair.0": 4, "pair.1.0": 5}


def test_a_bare_tensor_is_a_leaf_without_a_path() -> None:
    assert [path for path, _ in leaves(X)] == [""]


BOXES = [{"boxes": torch.rand(n, 4), "labels": torch.ones(n)} for n in (2, 0, 5)]
SIZES: dict[str, tuple[Any, int | None]] = {
    "a tensor": (X, 4),
    "a tuple": ((X, Y), 4),
    "a list": ([X, Y], 4),
    "a dict": ({"x": X, "y": Y}, 4),
    "a named tuple": (Pair(X, Y), 4),
    "nested": ({"x": (X, {"mask": Y})}, 4),
    "with strings": ((X, ["a", "b", "c", "d"], "split"), 4),
    "with a scalar": ((X, torch.tensor(0.5), 3), 4),
    "with what is shared": ((X, torch.zeros(1, 3)), 4),
    "one sample": ((X[:1], Y[:1]), 1),
    "a dict a sample": (BOXES, 3),
    "images and a dict a sample": (([torch.rand(3, n, 9) for n in (5, 6, 7)], BOXES), 3),
    "pairs of sample and target": ([(torch.rand(3, n, 9), BOXES[n - 5]) for n in (5, 6, 7)], 3),
    "columns in pairs": (((X, Y), (X, Y)), 4),
    "their transpose": (tuple(zip(*[(torch.rand(3, n, 9), BOXES[n - 5]) for n in (5, 6, 7)], strict=True)), 3),
    "pairs of image and label": ([(torch.rand(3, n, 9), torch.tensor(n)) for n in (5, 6, 7, 8)], 4),
    "two lengths": ((X, torch.zeros(5)), None),
    "a packed sequence": (pack_sequence([torch.ones(3), torch.ones(2)]), None),
    "a packed sequence within": ({"x": pack_sequence([torch.ones(4), torch.ones(4)]), "y": Y}, None),
    "an object": ((X, object()), None),
}


@pytest.mark.parametrize("name", SIZES)
def test_the_size_is_told_or_it_is_said_that_it_cannot_be(name: str) -> None:
    batch, size = SIZES[name]
    assert batch_size(batch) == size


TAKEN: dict[str, tuple[Any, int, list[int], Any]] = {
    "a tensor": (Y, 4, [3, 1], [13, 11]),
    "a tuple": ((X, Y), 4, [1], ([[3.0, 4.0, 5.0]], [11])),
    "a dict": ({"y": Y, "n": 3}, 4, [0, 2], {"y": [10, 12], "n": 3}),
    "nested": ({"a": [Y, (Y,)]}, 4, [2], {"a": [[12], ([12],)]}),
    "strings": ((Y, ["a", "b", "c", "d"], "split"), 4, [3], ([13], ["d"], "split")),
    "a named tuple": (Pair(Y, X[:, 0]), 4, [1], Pair([11], [3.0])),
    "what is shared": ((Y, torch.tensor(5.0), torch.tensor([[7.0]])), 4, [1], ([11], 5.0, [[7.0]])),
    "a dict a sample": ([{"n": 0}, {"n": 1}, {"n": 2}], 3, [2, 0], [{"n": 2}, {"n": 0}]),
    "two columns of two samples": ((Y[:2], X[:2, 0]), 2, [1], ([11], [3.0])),
    "two lists of two samples": (([1, 2], ["a", "b"]), 2, [1], ([2], ["b"])),
    "a tensor and a dict of two samples": ((Y[:2], {"z": X[:2, 0]}), 2, [1], ([11], {"z": [3.0]})),
    "a tensor and strings of two samples": ((Y[:2], ["a", "b"]), 2, [1], ([11], ["b"])),
    "pairs of sample and target": (
        [(torch.ones(2, 1), {"n": 0}), (torch.zeros(2, 1), {"n": 1})],
        2,
        [1],
        [([[0.0], [0.0]], {"n": 1})],
    ),
    "two samples of columns in pairs": (((Y[:2], X[:2]), (Y[:2],)), 2, [0], (([10], [[0.0, 1.0, 2.0]]), ([10],))),
    "a dict of inputs and one of targets": (({"a": Y[:2]}, {"b": Y[:2]}), 2, [1], ({"a": [11]}, {"b": [11]})),
    "one sample": ((Y[:1], ["a"]), 1, [0], ([10], ["a"])),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_part_has_the_samples_asked_for_and_all_that_is_shared(name: str) -> None:
    batch, size, indices, expected = TAKEN[name]
    part = take(batch, size, indices)
    assert plain(part) == expected
    assert type(part) is type(batch)


def test_boxes_are_taken_by_sample_even_when_one_has_as_many_boxes_as_there_are_samples() -> None:
    batch = [{"boxes": torch.zeros(2, 4)}, {"boxes": torch.ones(1, 4)}]
    (part,) = take(batch, 2, [0])
    assert part["boxes"].shape == (2, 4)


def test_a_mapping_keeps_its_type_where_it_can() -> None:
    class Odd(OrderedDict[str, Any]):
        def __init__(self, one: int, other: int) -> None:
            super().__init__(y=Y)

    assert type(take(OrderedDict(y=Y), 4, [1])) is OrderedDict
    assert plain(dict(take(Odd(1, 2), 4, [1]))) == {"y": [11]}


@settings(max_examples=60, deadline=None)
@given(size=st.integers(2, 9), data=st.data())
def test_a_part_is_what_indexing_each_column_gives(size: int, data: st.DataObject) -> None:
    indices = data.draw(st.lists(st.integers(0, size - 1), unique=True, min_size=1))
    columns = [torch.randn(size, 2), torch.arange(size), [f"name {n}" for n in range(size)]]
    chosen = data.draw(st.lists(st.sampled_from(range(3)), min_size=1, max_size=3))
    batch = {"first": columns[0], "rest": tuple(columns[n] for n in chosen)}
    assert batch_size(batch) == size
    part = take(batch, size, indices)
    assert torch.equal(part["first"], columns[0][indices])
    for n, item in zip(chosen, part["rest"], strict=True):
        expected = [columns[n][index] for index in indices]
        assert list(item) == expected if n == 2 else torch.equal(item, torch.stack(expected))


def test_a_part_shares_no_memory_with_the_batch() -> None:
    part = take(Y, 4, [0, 1])
    part.zero_()
    assert Y.tolist() == [10, 11, 12, 13]
