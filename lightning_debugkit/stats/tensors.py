"""Looks at many tensors at once: norms in one pass, bits that do not lie, a few entries that stand for all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_CHUNK = 1 << 22  # entries looked at together: bounds the memory of a look at the bits of a large tensor


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm of each tensor, without a copy to the host.

    Shapes:
        tensors: any shapes, on any devices; returns (len(tensors),) float32, or float64 where one of them is.

    Example:
        >>> norms([torch.tensor([3.0, 4.0]), torch.zeros(2, 2)])
        tensor([5., 0.])
    """
    local = [values(tensor) for tensor in tensors]
    if not local:
        return torch.zeros(0)
    wide = any(tensor.dtype == torch.float64 for tensor in local)
    kind = torch.float64 if wide else torch.float32
    # In half precision the norm itself would overflow: it is accumulated and returned in a wider type.
    low = any(tensor.dtype != kind for tensor in local)
    found = torch._foreach_norm(local, 2, dtype=kind) if low else torch._foreach_norm(local)
    device = found[0].device
    return torch.stack([norm if norm.device == device else norm.to(device) for norm in found])


def values(tensor: Tensor) -> Tensor:
    """Return the numbers that this process holds of a dense, sparse or distributed tensor.

    Example:
        >>> values(torch.tensor([0.0, 2.0]).to_sparse())
        tensor([2.])
    """
    tensor = tensor.detach()
    if hasattr(tensor, "to_local"):  # DTensor
        tensor = tensor.to_local()
    if tensor.layout is not torch.strided:
        tensor = tensor.coalesce().values() if tensor.layout is torch.sparse_coo else tensor.values()
    return tensor


def bits(tensor: Tensor) -> int:
    """Return a number that is equal for equal bits, whatever the device and the order of summation.

    Example:
        >>> bits(torch.tensor([1.0, 2.0])) == bits(torch.tensor([1.0, 2.0]))
        True
        >>> bits(torch.tensor([1.0, 2.0])) == bits(torch.tensor([1.0, 2.0000002]))
        False
    """
    held = values(tensor).resolve_conj().resolve_neg().contiguous()
    if held.dtype == torch.bool or held.is_complex():
        held = torch.view_as_real(held).contiguous() if held.is_complex() else held.to(torch.uint8)
    width = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[held.dtype.itemsize]
    flat = held.view(-1).view(width)
    total = torch.zeros((), dtype=torch.int64, device=flat.device)
    for start in range(0, flat.numel(), _CHUNK):
        part = flat[start : start + _CHUNK]
        # Weights make a swap of two entries visible; int64 sums wrap around alike everywhere.
        weights = torch.arange(start + 1, start + 1 + part.numel(), device=flat.device) % 65_521 + 1
        total += (part.to(torch.int64) * weights).sum()
    return int(total)


def some(tensor: Tensor, count: int = 256) -> Tensor:
    """Return a copy of at most ``count`` evenly spread entries.

    Example:
        >>> some(torch.arange(10.0), count=5)
        tensor([0., 2., 4., 6., 8.])
    """
    flat = values(tensor).reshape(-1)
    stride = max(1, -(-flat.numel() // count))
    return flat[::stride].clone()
