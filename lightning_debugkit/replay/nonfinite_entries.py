"""Whether the numbers of a tensor are finite, and in which of its entries they are not."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_debugkit.core.tensor_numbers import numbers


def broken_rows(tensor: Tensor) -> list[int]:
    """Return which entries of the first dimension are not finite."""
    if not tensor.dim():
        return []
    if tensor.is_nested:
        return [row for row, part in enumerate(tensor.unbind()) if any(broken(part))]
    plain = None if tensor.layout is not torch.strided else numbers(tensor)
    if plain is None:
        return []
    bad = ~torch.isfinite(plain.float() if plain.dtype.itemsize == 1 else plain)
    found: list[int] = bad.reshape(plain.shape[0], -1).any(dim=1).nonzero().flatten().tolist()
    return found


def broken_columns(tensor: Tensor) -> list[int]:
    """Return which columns of a table, of samples by columns, are not finite; none of what is no table.

    >>> broken_columns(torch.tensor([[0.0, 1.0, float("nan")], [0.0, 1.0, 2.0]]))
    [2]
    """
    if tensor.is_nested or tensor.ndim != 2 or tensor.shape[1] < 2 or tensor.layout is not torch.strided:
        return []
    return broken_rows(tensor.t())


def broken(tensor: Tensor) -> tuple[bool, bool]:
    """Return whether ``tensor`` holds NaN, and whether it holds infinities; neither where it cannot be looked at."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.device.type == "meta":
        return False, False
    plain = numbers(tensor)
    if plain is None:
        return False, False
    if plain.dtype.itemsize == 1:  # the 8-bit types know no comparison
        plain = plain.float()
    if not plain.numel() or bool(torch.isfinite(plain).all()):
        return False, False
    return bool(torch.isnan(plain).any()), bool(torch.isinf(plain).any())
