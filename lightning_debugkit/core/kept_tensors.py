"""The numbers of a tensor, kept and put back to the bit, whatever its layout."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from lightning_debugkit.core.tensor_numbers import without_class


def tensor_kept(tensor: Tensor, on_host: bool = False) -> Callable[[], None]:
    """Return what puts the numbers of ``tensor`` back to those of now.

    Args:
        on_host: Keep them in the memory of the host, where its layout lets them be copied there.
    """
    plain = without_class(tensor)
    tensor = tensor if plain is None else plain
    away = on_host and not _is_packed(tensor)
    return partial(_put_back, tensor, tensor.detach().to("cpu", copy=True) if away else tensor.detach().clone())


def _put_back(tensor: Tensor, kept: Tensor) -> None:
    if _same_bits(tensor.detach(), kept):
        return
    with torch.inference_mode(tensor.is_inference()):
        # `.data` leaves the version counter alone: a graph that waits for its backward stays valid.
        tensor.data.copy_(kept)


def _same_bits(tensor: Tensor, kept: Tensor) -> bool:
    if tensor.shape != kept.shape or tensor.dtype != kept.dtype or tensor.layout != kept.layout:
        return False
    parts = list(zip(_parts(tensor), _parts(kept), strict=True))
    return all(a.shape == b.shape and torch.equal(_bytes(a.cpu()), _bytes(b.cpu())) for a, b in parts)


def _is_packed(tensor: Tensor) -> bool:
    return tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested


def _parts(tensor: Tensor) -> list[Tensor]:
    """Return the plain tensors that hold the numbers of ``tensor``."""
    if not _is_packed(tensor):
        return [tensor]
    if tensor.is_quantized:
        return [tensor.int_repr()]
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if str(tensor.layout) == "torch._mkldnn":
        return [tensor.to_dense()]
    if tensor.is_nested:
        return [tensor.values()]
    by_row = tensor.layout in (torch.sparse_csr, torch.sparse_bsr)
    inner = (tensor.crow_indices(), tensor.col_indices()) if by_row else (tensor.ccol_indices(), tensor.row_indices())
    return [*inner, tensor.values()]


def _bytes(tensor: Tensor) -> Tensor:
    # Not ``==``: it takes 0 and -0 for the same, and NaN for another NaN.
    return tensor.resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)
