"""Whether the numbers of a tensor are finite, in which of its entries, and where they lie in memory."""

from __future__ import annotations

import torch
from torch import Tensor


def broken_rows(tensor: Tensor) -> list[int]:
    """Return which entries of the first dimension are not finite."""
    if not tensor.dim():
        return []
    if tensor.is_nested:
        return [row for row, part in enumerate(tensor.unbind()) if any(broken(part))]
    if tensor.layout is not torch.strided:
        return []
    bad = ~torch.isfinite(tensor.float() if tensor.dtype.itemsize == 1 else tensor)
    found: list[int] = bad.reshape(tensor.shape[0], -1).any(dim=1).nonzero().flatten().tolist()
    return found


def storage(tensor: Tensor) -> int:
    """Return the address of the numbers of ``tensor``."""
    if tensor.layout is not torch.strided or tensor.is_nested:
        tensor = tensor._values() if tensor.layout is torch.sparse_coo else tensor.values()
    return tensor.untyped_storage().data_ptr()


def broken(tensor: Tensor) -> tuple[bool, bool]:
    """Return whether ``tensor`` holds NaN, and whether it holds infinities."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.device.type == "meta":
        return False, False
    if tensor.layout is not torch.strided or tensor.is_nested:
        tensor = tensor._values() if tensor.layout is torch.sparse_coo else tensor.values()
    if tensor.dtype.itemsize == 1:  # the 8-bit types know no comparison
        tensor = tensor.float()
    if not tensor.numel() or bool(torch.isfinite(tensor).all()):
        return False, False
    return bool(torch.isnan(tensor).any()), bool(torch.isinf(tensor).any())
