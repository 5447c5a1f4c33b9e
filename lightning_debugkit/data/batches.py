"""A batch, whatever it is made of: its leaves by path, how many samples it holds, some of them, all of them again.

Tensors (nested and packed ones too), arrays, numbers and texts in mappings, sequences, dataclasses and other objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence

from lightning_debugkit.data.batch_size import (
    are_listed,
    check_open,
    is_of_samples,
    may_hold_entries,
    own_length,
    sizes,
)
from lightning_debugkit.data.containers import CannotSplit as CannotSplit
from lightning_debugkit.data.containers import is_array, is_graphs, is_opaque, is_plain, items_of, list_like, rebuilt
from lightning_debugkit.data.containers import leaves as leaves
from lightning_debugkit.data.containers import tensors as tensors

_LONG = 120  # characters of another's error
_DEEP = 16  # an object may hold what holds it


def is_floats(leaf: Any) -> bool:
    """Tell whether a leaf is an array of floats."""
    return is_array(leaf) and np.issubdtype(leaf.dtype, np.floating) and leaf.dtype != np.longdouble


def entry(batch: Any, way: Sequence[str]) -> Any:
    """Return the part of a batch that a way of keys leads to.

    >>> entry({"a": [1, 2], "b": 3}, ["a", "1"])
    2
    """
    for key in way:
        batch = dict(items_of(batch) or ())[key]
    return batch


def replaced(batch: Any, way: Sequence[str], part: Any) -> Any:
    """Return a batch with another part where a way of keys leads to.

    >>> replaced({"a": [1, 2], "b": 3}, ["a", "1"], 5)
    {'a': [1, 5], 'b': 3}
    """
    if not way:
        return part
    key, *rest = way
    items = items_of(batch) or ()
    return rebuilt(batch, [replaced(held, rest, part) if name == key else held for name, held in items])


def indexed(path: str) -> str:
    """Return a place in a batch as Python has it.

    >>> indexed("1.boxes"), indexed(".past"), indexed("windows..past"), indexed("")
    ("batch[1]['boxes']", 'batch.past', "batch['windows'].past", 'the batch')
    """
    if not path:
        return "the batch"
    told, is_attribute = "batch", False
    for key in path.split("."):
        if is_attribute:
            told, is_attribute = f"{told}.{key}", False
        elif key:
            told += f"[{key}]" if key.isdecimal() else f"[{key!r}]"
        else:
            is_attribute = True
    return told


def batch_size(batch: Any, asked: int | None = None) -> int | None:
    """Return how many samples ``batch`` holds, or ``None`` where that cannot be told for certain.

    Each of its parts must hold something of every sample (in the first dimension of a tensor or an array, or in a list
    with one entry a sample), or be shared by all of them: a number, a text, a first dimension of 1.

    Args:
        asked: How many samples the loader asked for: it decides where a list of tensors may be read in two ways.
    """
    found = sizes(batch, asked)
    return found[0] if len(found) == 1 else None


def why_whole(batch: Any, asked: int | None = None) -> str:
    """Return in one sentence why a batch cannot be split into samples, empty if it can.

    >>> why_whole((torch.zeros(4, 3), torch.zeros(5)))
    'the batch cannot be split into samples: batch[0] has 4 entries and batch[1] has 5'
    """
    found = sizes(batch, asked)
    if len(found) == 1:
        try:
            take(batch, found[0], [0])
        except CannotSplit as error:
            return f"the batch cannot be split into samples: {error}"
        return ""
    if found:
        told = " or ".join(map(str, found))
        return f"the batch cannot be split into samples: its lists may be of {told}"
    return f"the batch cannot be split into samples: {reason(batch)}"


def take(batch: Any, size: int, indices: Sequence[int]) -> Any:
    """Return the samples ``indices`` of a batch of ``size`` samples; what is shared by all stays whole.

    Raises:
        CannotSplit: A part of the batch cannot be indexed, or made anew.
    """
    return _taken(batch, size, list(indices), is_listed=False)


def _taken(value: Any, size: int, indices: list[int], is_listed: bool) -> Any:
    if is_plain(value):
        return value
    if isinstance(value, PackedSequence):
        return _of_packed(value, indices) if own_length(value) == size else value
    own = own_length(value)
    if own is not None:
        return _rows(value, indices) if own == size else value
    if isinstance(value, Tensor) or is_array(value):
        return value
    if is_graphs(value):
        raise CannotSplit("it is one graph, which does not know what belongs to which sample")
    items = items_of(value)
    if items is None:
        return value
    inside = [item for _, item in items]
    if may_hold_entries(value) and len(value) == size and (is_listed or is_of_samples(value, size)):
        return list_like(value, [inside[index] for index in indices])
    below = are_listed(inside, size)
    return rebuilt(value, [_taken(item, size, indices, below and may_hold_entries(item)) for item in inside])


def _rows(value: Any, indices: list[int]) -> Any:
    try:
        if is_graphs(value):
            return type(value).from_data_list(value.index_select(indices))
        if is_array(value):
            return value[np.asarray(indices, dtype=np.int64)]
        if isinstance(value, Tensor) and value.is_nested:
            parts = value.unbind()
            return torch.nested.as_nested_tensor([parts[index] for index in indices], layout=value.layout)
        chosen = torch.as_tensor(indices, dtype=torch.long, device=value.device)
        if isinstance(value, Tensor) and value.layout is not torch.strided:
            return value.to_sparse_coo().index_select(0, chosen).to_sparse(layout=value.layout)
        return _like(value, value[chosen]) if isinstance(value, Tensor) else value[chosen]
    except Exception as error:
        told = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:_LONG]}"
        raise CannotSplit(f"{type(value).__name__} cannot be indexed ({told})") from error


def _like(value: Tensor, rows: Tensor) -> Tensor:
    """Give rows of a tensor of a subclass, such as boxes with their format, what indexing may have lost."""
    if type(value) in (Tensor, torch.nn.Parameter):
        return rows
    kept = rows if isinstance(rows, type(value)) else rows.as_subclass(type(value))
    vars(kept).update({name: held for name, held in vars(value).items() if name not in vars(kept)})
    return kept


def _of_packed(value: PackedSequence, indices: list[int]) -> PackedSequence:
    parts = unpack_sequence(value)
    is_sorted = value.sorted_indices is None
    # Where the collate function has sorted them, the longest still come first.
    order = sorted(indices) if is_sorted else indices
    return pack_sequence([parts[index] for index in order], enforce_sorted=is_sorted)


def reason(batch: Any) -> str:
    """Return why no number of samples explains a batch."""
    try:
        check_open(batch)
    except CannotSplit as error:
        return str(error)
    met: dict[int, str] = {}
    for path, part in _parts(batch, "", 0):
        if is_graphs(part):
            return f"{indexed(path)} is a {type(part).__name__} that was not made of one graph a sample"
        length = own_length(part)
        if length is None and not isinstance(part, Tensor) and not is_array(part) and is_opaque(part):
            return f"{indexed(path)} is a {type(part).__name__}, which cannot be looked into"
        if length is not None and length > 1:
            met.setdefault(length, indexed(path))
    if len(met) > 1:
        (one, here), (other, there) = list(met.items())[:2]
        return f"{here} has {one} entries and {there} has {other}"
    return "no part of it has an entry for each sample"


def _parts(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a batch, and what is indexed as a whole."""
    whole = isinstance(value, PackedSequence) or is_graphs(value) or own_length(value) is not None
    items = None if whole or depth > _DEEP else items_of(value)
    if items is None:
        yield path, value
        return
    for key, item in items:
        yield from _parts(item, f"{path}.{key}" if path else key, depth + 1)
