"""Whether samples of a batch are those that a data set gives when it is asked again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lightning_debugkit.data.containers import is_array, is_plain

Leaves: TypeAlias = Mapping[str, Any]

_CHANCE = 1e-3  # that samples in some other order look the same


def are_alike(path: str, kept: Leaves, again: Leaves) -> bool:
    """Tell whether what lies at ``path`` in a row of a batch is what a sample has there; NaN is like NaN."""
    if path not in kept or path not in again:
        return False
    one, other = (torch.as_tensor(leaf) if _is_numbers(leaf) else leaf for leaf in (kept[path], again[path]))
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return type(one) is type(other) and is_plain(one) and bool(one == other)
    if one.is_nested or other.is_nested:
        parts = [tensor.unbind() if tensor.is_nested else (tensor,) for tensor in (one, other)]
        pairs = list(zip(*parts, strict=False))
        return len(parts[0]) == len(parts[1]) and all(are_alike("", {"": a}, {"": b}) for a, b in pairs)
    one, other = (part.to_dense() if part.layout is not torch.strided else part for part in (one, other))
    if one.ndim != other.ndim or not other.numel() or any(a < b for a, b in zip(one.shape, other.shape, strict=True)):
        return False
    # In a batch what is shorter is filled up.
    common = tuple(slice(0, size) for size in other.shape)
    is_rest = torch.ones_like(one, dtype=torch.bool)
    is_rest[common] = False
    rest, one, other = one[is_rest], one[common], other.to(one.dtype)
    return bool((rest == rest[:1]).all()) and bool(((one == other) | ((one != one) & (other != other))).all())


def tells_orders_apart(path: str, rows: Sequence[Sequence[Leaves]], drawn: Sequence[Sequence[Leaves]]) -> bool:
    """Tell whether the rows differ in this so much that hardly any other order of them would look the same.

    References:
        Bregman, Some properties of nonnegative matrices and their permanents, 1973: so many orders at most look the
        same, where each row looks like so many.
    """
    if all(len(part) == 1 for part in rows):
        return True  # batches of one sample have no order
    chance, are_apart = 0.0, False
    for part, again in zip(rows, drawn, strict=True):
        like = [sum(are_alike(path, kept, other) for other in again) for kept in part]
        are_apart |= set(like) == {1} and len(like) > 1
        chance += sum(math.lgamma(count + 1) / count for count in like) - math.lgamma(len(like) + 1)
    return are_apart or chance < math.log(_CHANCE)


def _is_numbers(leaf: Any) -> bool:
    return is_array(leaf) and leaf.dtype.kind in "biufc"
