"""The numbers of any tensor, also of a subclass whose own operations are few, raise or answer otherwise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightning_debugkit.core.compat import DisableTorchFunction, has_no_memory, tree_map
from lightning_debugkit.stats.tensor_norms import layers_of

_PLAIN = (Tensor, nn.Parameter)


def numbers(tensor: Tensor) -> Tensor | None:
    """Return a plain tensor with the numbers of ``tensor``; ``None`` where nobody can look at them.

    It has the shape of ``tensor`` but for nested and sparse ones, whose values stand in a row. Of one that is made of
    several like itself it is their mean.

    >>> numbers(torch.masked.masked_tensor(torch.tensor([1.0, torch.nan]), torch.tensor([True, False])))
    tensor([1., 0.])
    """
    inner = held(tensor)
    if inner is None:
        return _mean(tensor)
    if not hasattr(tensor, "get_mask"):
        return inner
    with DisableTorchFunction():  # of a MaskedTensor: what its mask leaves out is no number of it
        return torch.where(tensor.get_mask(), inner, torch.zeros((), dtype=inner.dtype, device=inner.device))


def _mean(tensor: Tensor) -> Tensor | None:
    try:
        with DisableTorchFunction():
            if has_no_memory(tensor):
                return torch.zeros(tensor.shape, dtype=tensor.dtype, device=tensor.device)
            layers = layers_of(tensor)
            return torch.stack(layers).mean(0) if layers else None
    except Exception:  # whatever a class of the user's raises
        return None


def plainly(tree: Any) -> Any:
    """Return ``tree`` with a plain tensor of the same numbers for each; what cannot be looked at is on meta."""
    return tree_map(_plain_one, tree)


def _plain_one(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor) or type(leaf) in _PLAIN:
        return leaf
    plain = numbers(leaf)
    return torch.empty(leaf.shape, dtype=leaf.dtype, device="meta") if plain is None else plain


def held(tensor: Tensor) -> Tensor | None:
    """Return the plain tensor in whose memory the numbers of ``tensor`` lie; ``None`` where it is not known."""
    if type(tensor) in _PLAIN and tensor.layout is torch.strided and not tensor.is_nested:
        return None if has_no_memory(tensor) else tensor
    try:
        with DisableTorchFunction():
            return _held(tensor)
    except Exception:  # whatever a class of the user's raises
        return None


def without_class(tensor: Tensor) -> Tensor | None:
    """Return the plain tensor in the memory of one of any class, without what that makes of a tensor's methods.

    ``None`` for a class that dispatches by itself: it may have no memory of its own.
    """
    if type(tensor) in _PLAIN:
        return tensor
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return None
    with DisableTorchFunction():
        plain: Tensor = tensor.as_subclass(Tensor)
    return plain


def storage(tensor: Tensor) -> int:
    """Return the address of the numbers of ``tensor``, or of itself where they cannot be looked at."""
    plain = held(tensor)
    return id(tensor) if plain is None else plain.untyped_storage().data_ptr()


def shares_memory(one: Tensor, other: Any) -> bool:
    """Tell whether two tensors of one length are one, or a view and what it is of."""
    if one is other or not isinstance(other, Tensor):
        return one is other
    plain = all(tensor.layout is torch.strided and not tensor.is_nested for tensor in (one, other))
    return plain and one.numel() == other.numel() > 0 and storage(one) == storage(other)


def _held(tensor: Any) -> Tensor | None:
    if tensor.is_nested or tensor.layout is not torch.strided:
        return held(tensor._values() if tensor.layout is torch.sparse_coo else tensor.values())
    if (plain := without_class(tensor)) is not None:
        return held(plain)
    if hasattr(tensor, "get_mask"):
        return held(tensor.get_data())
    if hasattr(tensor, "to_local"):  # of DTensor: its part of this rank
        return held(tensor.to_local())
    parts = [part for part in _parts(tensor) if part.shape == tensor.shape and part.dtype == tensor.dtype]
    return held(parts[0]) if len(parts) == 1 else None


def _parts(tensor: Any) -> list[Tensor]:
    flatten = getattr(tensor, "__tensor_flatten__", None)
    found = [getattr(tensor, name) for name in flatten()[0]] if flatten else list(vars(tensor).values())
    return [part for part in found if isinstance(part, Tensor)]
