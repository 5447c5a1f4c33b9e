"""Hear each gradient clipping that torch does, with the norm that it computes and that Lightning drops.

Lightning's own clipping, `clip_gradients` and direct calls of torch all end in the functions heard here, however they
were imported. What they do is left as it is.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from lightning_debugkit.core.compat import unseen

_MODULE = torch.nn.utils.clip_grad


class ClipListener(Protocol):
    """Somebody who wants to hear; nothing may be raised."""

    def clipped_by_norm(self, parameters: Sequence[Tensor], threshold: float, norm: Tensor) -> None:
        """Gradients of this norm were scaled down to the threshold, or are about to be."""

    def clipping_by_value(self, parameters: Sequence[Tensor], threshold: float) -> Callable[[], None]:
        """Entries are about to be cut to the threshold; what is returned is called afterwards."""


_listeners: list[ClipListener] = []
_hooks: list[tuple[Any, str, Any, Any]] = []  # owner, name, what stood there, what stands there now
_lock = threading.Lock()
_turns = itertools.count(1)
_turn = 0  # hooks of earlier turns that somebody has wrapped, and so cannot be taken away, are deaf


def listen(listener: ClipListener) -> None:
    """Let ``listener`` hear until `unlisten`."""
    with _lock:
        if listener not in _listeners:
            _listeners.append(listener)
        if not _hooks:
            _install()


def unlisten(listener: ClipListener) -> None:
    """Let ``listener`` hear no more; the last one leaves torch as it was. May be called twice."""
    with _lock:
        if listener in _listeners:
            _listeners.remove(listener)
        if not _listeners:
            for owner, name, before, hook in reversed(_hooks):
                if getattr(owner, name) is hook:
                    setattr(owner, name, before)
            _hooks.clear()


def _install() -> None:
    global _turn  # torch has one clip_grad_norm_ for all
    _turn = next(_turns)
    # Each clipping by norm ends here, also one that was imported by name.
    _clip_hook(_scaling, "_clip_grads_with_norm_", "clip_grads_with_norm_")
    _clip_hook(_value, "clip_grad_value_")


def _clip_hook(wrap: Callable[[Callable[..., Any], int], Callable[..., Any]], *names: str) -> None:
    hook = wrap(getattr(_MODULE, names[0]), _turn)
    for owner in (_MODULE, torch.nn.utils):
        for name in names:
            if hasattr(owner, name):
                _hooks.append((owner, name, getattr(owner, name), hook))
                setattr(owner, name, hook)


def _listening(turn: int) -> list[ClipListener]:
    return list(_listeners) if turn == _turn else []


def _listed(parameters: Any) -> list[Tensor]:
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)


def _scaling(original: Callable[..., Any], turn: int) -> Callable[..., Any]:
    @functools.wraps(original)
    def clip_grads_with_norm(parameters: Any, max_norm: float, total_norm: Tensor, *args: Any, **kwargs: Any) -> Any:
        held = _listed(parameters)
        for listener in _listening(turn):
            unseen(listener.clipped_by_norm)(held, float(max_norm), total_norm)
        return original(held, max_norm, total_norm, *args, **kwargs)

    return clip_grads_with_norm


def _value(original: Callable[..., Any], turn: int) -> Callable[..., Any]:
    @functools.wraps(original)
    def clip_grad_value(parameters: Any, clip_value: float, *args: Any, **kwargs: Any) -> Any:
        held = _listed(parameters)
        afterwards = [unseen(listener.clipping_by_value)(held, float(clip_value)) for listener in _listening(turn)]
        done = original(held, clip_value, *args, **kwargs)
        for told in afterwards:
            unseen(told)()
        return done

    return clip_grad_value
