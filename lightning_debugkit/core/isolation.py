"""Let a step run again without a trace: everything it could change is put back."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debugkit.core.compat import _BatchNorm
from lightning_debugkit.core.held_state import HeldState, Undo, container_kept, refill
from lightning_debugkit.core.kept_tensors import tensor_kept
from lightning_debugkit.core.quiet import quiet
from lightning_debugkit.core.rng import RandomState

_SMALL = 10_000
# What is muted and swapped is the whole process's: of two fits in threads, the second would put back the first one's.
# So are torch's notes of dispatch modes: threads that enter and leave them side by side leave them on for good, and
# what is compiled is compiled anew (`findings/torch-dispatch-modes-in-threads-stay-on.sh`).
ALONE = threading.RLock()


@contextlib.contextmanager
def isolated(module: nn.Module) -> Iterator[None]:
    """Put back parameters, buffers, gradients, modes, random state and all that `HeldState` keeps afterwards.

    Inside, gradients are on and absent, what this thread prints, logs and warns of is not heard, compiled code runs
    eagerly, and synchronised batch norm works on its own batch, so that no collective starts.
    """
    with ALONE:
        yield from _isolated(module)


def _isolated(module: nn.Module) -> Iterator[None]:
    undo: list[Undo] = [RandomState.capture().restore, *_tensors(module), *HeldState(module).undo]
    for parameter in module.parameters():
        parameter.grad = None
    synchronised = nn.SyncBatchNorm.forward
    try:
        nn.SyncBatchNorm.forward = _BatchNorm.forward  # type: ignore[method-assign]  # until below
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.enable_grad())
            stack.enter_context(quiet())
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
            yield tensor_kept(tensor, on_host=True)
        yield partial(_set, tensor, tensor.grad, tensor.requires_grad)


def _set(tensor: Tensor, grad: Tensor | None, requires_grad: bool) -> None:
    if tensor.is_leaf and tensor.requires_grad != requires_grad:
        tensor.requires_grad_(requires_grad)
    if tensor.grad is not grad:
        tensor.grad = grad


@contextlib.contextmanager
def attributes_kept(owner: Any) -> Iterator[None]:
    """Put back what an object holds: its attributes, and the entries of the lists, dicts and sets among them."""
    here = getattr(owner, "__dict__", {})
    kept = dict(here)
    undo = [container_kept(value) for value in kept.values() if _is_small(value)]
    try:
        yield
    finally:
        refill(here, kept)
        for step in reversed(undo):
            step()


def _is_small(value: Any) -> bool:
    # Data themselves are only read; counters, logs and caches are small.
    return isinstance(value, list | dict | set | deque) and len(value) <= _SMALL
