"""Let a step run again without a trace: everything it could change is put back."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debugkit.core.compat import MODULE_OWNERS, _BatchNorm
from lightning_debugkit.core.rng import RandomState

Undo = Callable[[], None]
_SMALL = 10_000


@contextlib.contextmanager
def isolated(module: nn.Module) -> Iterator[None]:
    """Put back parameters, buffers, gradients, modes, attributes, metric states and random state afterwards.

    Inside, gradients are on and absent, prints and warnings are muted, compiled code runs eagerly, and synchronised
    batch norm works on its own batch, so that no collective starts.
    """
    undo: list[Undo] = [RandomState.capture().restore, *_tensors(module), *_attributes(module)]
    for parameter in module.parameters():
        parameter.grad = None
    synchronised = nn.SyncBatchNorm.forward
    try:
        nn.SyncBatchNorm.forward = _BatchNorm.forward  # type: ignore[method-assign]  # until below
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.enable_grad())
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
            stack.enter_context(torch.compiler.set_stance("force_eager"))
            torch.clear_autocast_cache()
            yield
    finally:
        nn.SyncBatchNorm.forward = synchronised  # type: ignore[method-assign]  # its own
        torch.clear_autocast_cache()
        _undo(undo)


def _undo(undo: list[Undo]) -> None:
    """Put everything back: what cannot be put back keeps nothing else from it."""
    failed: Exception | None = None
    for step in reversed(undo):
        try:
            step()
        except Exception as error:
            failed = failed or error
    if failed is not None:
        raise failed


def _tensors(module: nn.Module) -> Iterator[Undo]:
    """Yield what puts back values, gradients and flags of parameters and buffers."""
    for tensor in (*module.parameters(), *module.buffers()):
        if torch.nn.parameter.is_lazy(tensor):
            continue
        if not tensor.is_meta:
            kept = tensor.detach().clone() if _is_packed(tensor) else tensor.detach().to("cpu", copy=True)
            yield partial(_put_back, tensor, kept)
        yield partial(_set, tensor, tensor.grad, tensor.requires_grad)


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


def _set(tensor: Tensor, grad: Tensor | None, requires_grad: bool) -> None:
    if tensor.is_leaf and tensor.requires_grad != requires_grad:
        tensor.requires_grad_(requires_grad)
    if tensor.grad is not grad:
        tensor.grad = grad


def _attributes(module: nn.Module) -> Iterator[Undo]:
    """Yield what puts back the attributes of every submodule: counters, lists, hidden states, metric states."""
    for part in module.modules():
        here = vars(part)
        kept = dict(here)
        for name, value in kept.items():
            if name not in MODULE_OWNERS:
                yield from _value(value, depth=3)
        yield partial(_refill, here, kept)


@contextlib.contextmanager
def attributes_kept(owner: Any) -> Iterator[None]:
    """Put back what an object holds: its attributes, and the entries of the lists, dicts and sets among them."""
    here = getattr(owner, "__dict__", {})
    kept = dict(here)
    undo = [step for value in kept.values() if _is_small(value) for step in _value(value, depth=1)]
    try:
        yield
    finally:
        _refill(here, kept)
        for step in reversed(undo):
            step()


def _is_small(value: Any) -> bool:
    # Data themselves are only read; counters, logs and caches are small.
    return isinstance(value, list | dict | set | deque) and len(value) <= _SMALL


def _refill(here: dict[str, Any], kept: dict[str, Any]) -> None:
    if here.keys() != kept.keys() or any(here[name] is not value for name, value in kept.items()):
        here.clear()
        here.update(kept)


def _value(value: Any, depth: int) -> Iterator[Undo]:
    """Yield what puts back a container's entries, and the numbers of a tensor that is no parameter."""
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        if not (value.is_meta or torch.nn.parameter.is_lazy(value)):
            kept = value.detach().clone()
            yield lambda: _put_back(value, kept)
    elif isinstance(value, dict) and depth:
        entries = dict(value)
        for item in entries.values():
            yield from _value(item, depth - 1)
        yield lambda: _refill(value, entries)
    elif isinstance(value, list | deque) and depth:
        items = list(value)
        for item in items:
            yield from _value(item, depth - 1)
        yield lambda: _relist(value, items)
    elif isinstance(value, set):
        members = set(value)
        yield lambda: _remember(value, members)


def _remember(value: set[Any], members: set[Any]) -> None:
    value.clear()
    value.update(members)


def _relist(value: Any, items: list[Any]) -> None:
    if len(value) != len(items) or any(here is not kept for here, kept in zip(value, items, strict=True)):
        value.clear()
        value.extend(items)
