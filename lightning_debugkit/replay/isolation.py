"""Let a step run again without a trace: everything it could change is put back."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_debugkit.replay.randomness import RandomState

Undo = Callable[[], None]
# The tree itself and its owners are put back by other means, or must never be touched.
_SMALL = 10_000
_SKIPPED = {"_trainer", "_fabric", "_fabric_optimizers"}


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
        nn.SyncBatchNorm.forward = _BatchNorm.forward  # type: ignore[method-assign]
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.enable_grad())
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
            if hasattr(torch.compiler, "set_stance"):  # torch 2.6
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            torch.clear_autocast_cache()
            yield
    finally:
        nn.SyncBatchNorm.forward = synchronised  # type: ignore[method-assign]
        torch.clear_autocast_cache()
        for step in reversed(undo):
            step()


def _tensors(module: nn.Module) -> Iterator[Undo]:
    """Yield what puts back values, gradients and flags of parameters and buffers."""
    for tensor in (*module.parameters(), *module.buffers()):
        if torch.nn.parameter.is_lazy(tensor):
            continue
        # `.data` leaves the version counter alone: a graph that waits for its backward stays valid.
        kept = tensor.detach().to("cpu", copy=True)
        yield lambda tensor=tensor, kept=kept: _put_back(tensor, kept)  # type: ignore[misc]
        yield lambda t=tensor, grad=tensor.grad, flag=tensor.requires_grad: _set(t, grad, flag)  # type: ignore[misc]


def _put_back(tensor: Tensor, kept: Tensor) -> None:
    if not _same_bits(tensor.detach(), kept):
        tensor.data.copy_(kept)


def _same_bits(tensor: Tensor, kept: Tensor) -> bool:
    here = tensor.to("cpu")
    return here.shape == kept.shape and here.dtype == kept.dtype and torch.equal(_bytes(here), _bytes(kept))


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
            if name not in _SKIPPED:
                yield from _value(value, depth=3)
        yield lambda here=here, kept=kept: _refill(here, kept)  # type: ignore[misc]


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
        kept = value.detach().clone()
        yield lambda: _put_back(value, kept.cpu())
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
