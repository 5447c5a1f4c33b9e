"""Batches of all shapes: their leaves, their size, and parts of them."""

from __future__ import annotations

import datetime
from collections import OrderedDict, UserDict, UserList, namedtuple
from dataclasses import dataclass
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence, unpack_sequence

from lightning_debugkit.data.batch_size import sizes, tried
from lightning_debugkit.data.batches import batch_size, entry, leaves, replaced, take, why_whole

Pair = namedtuple("Pair", ["x", "y"])
X, Y = torch.arange(12.0).view(4, 3), torch.tensor([10, 11, 12, 13])


@dataclass(slots=True, frozen=True)
class Frozen:
    past: Tensor
    note: str = "of all"


class Slots:
    __slots__ = ("__hidden", "unset", "x")

    def __init__(self, x: Tensor, hidden: Tensor) -> None:
        self.x, self.__hidden = x, hidden


class Loop:
    """It holds itself, and a number nobody may ask for."""

    def __init__(self) -> None:
        self.x, self.me = X, self

    @property
    def cost(self) -> int:
        raise AssertionError("a property is not asked for")


def nested(*lengths: int) -> Tensor:
    return torch.nested.nested_tensor([torch.full((n, 2), float(n)) for n in lengths], layout=torch.jagged)


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
    assert paths == {"image": 1, "targets.0": 2, "targets.1.boxes": 3, "pair..x": 4, "pair..y.0": 5}


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
    "a packed sequence": (pack_sequence([torch.ones(3), torch.ones(2)]), 2),
    "a packed sequence within": ({"x": pack_sequence([torch.ones(4), torch.ones(4)]), "y": Y}, None),
    "an object": ((X, object()), None),
    "a frozen dataclass with slots": (Frozen(X), 4),
    "an object with slots": ({"held": Slots(X, Y)}, 4),
    "an object with a date": (SimpleNamespace(x=X, when=datetime.date(2000, 1, 1)), 4),
    "an object that holds itself": (Loop(), None),
    "a user dict and a user list": (UserDict(x=UserList([X, Y])), 4),
    "a mapping that cannot be written to": (MappingProxyType({"x": X, "y": Y}), 4),
    "arrays": ({"x": X.numpy(), "y": Y.numpy(), "scale": np.float32(3)}, 4),
    "a nested tensor": ({"x": nested(1, 2, 3), "y": Y[:3]}, 3),
    "a packed sequence and classes": ((pack_sequence([torch.ones(3, 2), torch.ones(2, 2)]), Y[:2]), 2),
    "tensors of one length and numbers": ({"seqs": [X] * 8, "y": [1] * 8}, 8),
    "tensors of one length and classes": (([X] * 8, torch.arange(8)), 8),
    "as many samples as each is long": ({"seqs": [X] * 4, "y": [1] * 4}, 4),
    "tensors of one length alone": ({"seqs": [X] * 8}, None),
    "views of the samples": ({"views": [X, X], "y": Y}, 4),
    "a pair of views": ([X, X + 1], 4),
    "columns of several widths": ([X, X[:, :1], X, X], 4),
    "crops of several sizes": ([torch.ones(5, 3, 8, 8)] * 2 + [torch.ones(5, 3, 4, 4)] * 4, 5),
    "pictures of several sizes": ([torch.ones(3, 8, 8 + n) for n in range(5)], 5),
    "pictures with as many boxes as channels": (([torch.ones(3, 8, 8)] * 5, [{"boxes": torch.ones(3, 4)}] * 5), 5),
    "one picture and its boxes": (([torch.ones(3, 8, 8)], [{"boxes": torch.ones(5, 4)}]), 1),
    "texts": (["a", "b", "c"], 3),
    "records of texts": ([{"text": "a", "label": 1}, {"text": "b", "label": 2}], 2),
    "dataclasses": ([Frozen(torch.ones(n, 2)) for n in (1, 2, 3)], 3),
    "two loaders of one size": ({"a": [X, Y], "b": [X, Y]}, 4),
    "two loaders": ({"a": [X, Y], "b": [X[:2], Y[:2]]}, None),
    "two loaders in a list": ([[X, Y], [X[:3], Y[:3]]], None),
    "sparse": ((torch.eye(4).to_sparse(), Y), 4),
    "sequences with the time first": ((torch.ones(6, 4, 2), Y), None),
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


WAYS: dict[str, tuple[Any, int, int]] = {
    "tensors of one length alone": ({"seqs": [X] * 8}, 8, 8),
    "tensors of one length alone, as columns": ({"seqs": [X] * 8}, 4, 4),
    "a collate function that dropped some": ((X, Y), 8, 4),
    "a last batch of two in a list": ([X[:2], Y[:2]], 2, 2),
}


@pytest.mark.parametrize("name", WAYS)
def test_what_the_loader_asked_for_decides_between_two_ways_to_read_a_batch(name: str) -> None:
    batch, asked, size = WAYS[name]
    assert batch_size(batch, asked) == size


WHOLE = {
    "lengths": ((X, torch.zeros(5)), "batch[0] has 4 entries and batch[1] has 5"),
    "an object": ({"x": X, "held": object()}, "batch['held'] is a object, which cannot be looked into"),
    "a loop": (Loop(), "a Loop in it holds itself"),
    "two ways": ({"seqs": [X] * 8}, "its lists may be of 4 or 8"),
    "nothing": ({"path": "a.pt"}, "no part of it has an entry for each sample"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_one_sentence_says_why_a_batch_cannot_be_split(name: str) -> None:
    batch, why = WHOLE[name]
    assert why_whole(batch) == f"the batch cannot be split into samples: {why}"
    assert why_whole((X, Y)) == ""


KINDS = ["a frozen dataclass with slots", "an object with slots", "an object with a date", "a nested tensor"]
KINDS += ["a user dict and a user list", "a mapping that cannot be written to", "arrays", "sparse", "dataclasses"]
KINDS += ["a packed sequence and classes", "tensors of one length and classes", "pictures of several sizes"]


@pytest.mark.parametrize("name", KINDS)
def test_parts_of_any_kind_are_of_its_kind_and_hold_its_samples(name: str) -> None:
    """Every sample alone, and all of them the other way round, have the numbers of the batch."""
    batch, size = SIZES[name]
    assert size is not None
    whole = numbers(batch)
    alone = [take(batch, size, [index]) for index in range(size)]
    assert [type(part) for part in alone] == [type(batch)] * size
    assert all(batch_size(part, 1) == 1 for part in alone)
    around = take(batch, size, range(size - 1, -1, -1))
    assert numbers(take(around, size, range(size - 1, -1, -1))) == whole
    assert numbers(batch) == whole, "the batch itself is as it was"


def numbers(tree: Any) -> list[Any]:
    """All numbers of a batch, place by place."""
    held = [
        (path, leaf.to_dense() if isinstance(leaf, Tensor) and leaf.is_sparse else leaf) for path, leaf in leaves(tree)
    ]
    return [
        (
            path,
            [part.tolist() for part in leaf.unbind()] if isinstance(leaf, Tensor) and leaf.is_nested else leaf.tolist(),
        )
        for path, leaf in held
        if hasattr(leaf, "tolist") and "indices" not in path
    ]


def test_packed_sequences_are_unpacked_by_sample() -> None:
    batch = pack_sequence([torch.full((n, 1), float(n)) for n in (1, 3, 2)], enforce_sorted=False)
    part = take(batch, 3, [2, 0])
    assert [each.flatten().tolist() for each in unpack_sequence(part)] == [[2.0, 2.0], [1.0]]


def test_the_parts_of_several_loaders_are_reached_and_replaced_by_their_way() -> None:
    batch = {"a": [X, Y], "b": {"c": [X[:2], Y[:2]]}}
    assert entry(batch, ["b", "c", "1"]).tolist() == [10, 11]
    changed = replaced(batch, ["b", "c"], take(entry(batch, ["b", "c"]), 2, [1]))
    assert plain(changed["b"]["c"][1]) == [11]
    assert changed["a"][0] is X
    assert plain(batch["b"]["c"][1]) == [10, 11]


def test_a_tensor_of_a_class_keeps_it_and_what_it_knows() -> None:
    class Boxes(Tensor):
        pass

    boxes = X.as_subclass(Boxes)
    boxes.format = "XYXY"
    plain_again = boxes[:1].as_subclass(Tensor)
    part = take({"boxes": boxes}, 4, [1])["boxes"]
    assert (type(part), part.format, type(plain_again)) == (Boxes, "XYXY", Tensor)


def test_libraries_batches_are_split_as_they_themselves_would() -> None:
    """Where the libraries are installed; they are no dependency of the tests."""
    tensordict = pytest.importorskip("tensordict")
    batch = tensordict.TensorDict({"x": X, "n": {"y": Y}}, batch_size=[4])
    assert (batch_size(batch), plain(take(batch, 4, [2])["n", "y"])) == (4, [12])
    data = pytest.importorskip("torch_geometric.data")
    graphs = [data.Data(x=torch.full((n, 1), float(n)), edge_index=torch.zeros(2, n).long()) for n in (2, 3)]
    batch = data.Batch.from_data_list(graphs)
    assert (batch_size(batch), take(batch, 2, [1]).x.flatten().tolist()) == (2, [3.0, 3.0, 3.0])
    utils = pytest.importorskip("transformers.utils")
    output = type("Output", (utils.ModelOutput,), {})(logits=X, labels=Y)
    assert (batch_size(output), plain(take(output, 4, [1])["labels"])) == (4, [11])


def test_a_part_shares_no_memory_with_the_batch() -> None:
    part = take(Y, 4, [0, 1])
    part.zero_()
    assert Y.tolist() == [10, 11, 12, 13]


_COLUMN = st.tuples(
    st.lists(st.integers(0, 4), max_size=3), st.sampled_from([torch.float32, torch.int64, torch.bool])
).map(lambda made: torch.zeros(made[0], dtype=made[1]))


@settings(deadline=None)
@given(st.lists(_COLUMN, max_size=4), st.sampled_from([list, tuple]), st.none() | st.integers(0, 4))
def test_columns_have_the_length_that_is_found_when_every_length_is_tried(
    columns: list[Tensor], kind: type, asked: int | None
) -> None:
    assert sizes(kind(columns), asked) == tried(kind(columns), asked)


@settings(deadline=None)
@given(st.integers(0, 5), st.integers(1, 5), st.sampled_from([list, tuple]))
def test_a_batch_of_inputs_and_labels_has_as_many_samples_as_labels(count: int, more: int, kind: type) -> None:
    batch = kind([torch.zeros(count, 3), *(torch.zeros(count, dtype=torch.int64) for _ in range(more))])
    assert sizes(batch, None) == tried(batch, None) == [count]
