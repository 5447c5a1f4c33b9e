"""Where a dispatch mode of torch may stand around code that is not ours, and how it is left whatever that code does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor

from lightning_debugkit.core.compat import TorchDispatchMode, _get_current_dispatch_mode
from lightning_debugkit.core.program_code import names_in

_DEPTH = 4  # calls that a constructor is followed into
# What was found out of each class of tensors.
_made_anew: WeakKeyDictionary[type, bool] = WeakKeyDictionary()


def cannot_enter() -> str:
    """Return why no dispatch mode of ours may be entered now, empty if one may."""
    for kind in _kinds(Tensor):
        if is_made_anew(kind):
            return (
                f"{kind.__module__}.{kind.__qualname__} is made by Tensor.__new__, which fails under any dispatch mode "
                "of torch; made by as_subclass or _make_subclass it can be looked beside"
            )
    return ""


def is_made_anew(kind: type) -> bool:
    """Tell whether tensors of this class come from ``Tensor.__new__``: that is refused under a dispatch mode.

    Torch wants to give the new tensor its class, but the operation that made it has passed through Python and has given
    it one already.

    Read from the code of its constructors: a class with none of its own, or one that asks ``__new__`` of the next class
    up to torch's, is; one that ends in ``as_subclass``, ``_make_subclass`` or ``_make_wrapper_subclass`` is not.
    """
    if kind not in _made_anew:
        _made_anew[kind] = _is_made_anew(kind)
    return _made_anew[kind]


def _is_made_anew(kind: type) -> bool:
    makers = [vars(base)["__new__"] for base in kind.__mro__ if base not in Tensor.__mro__ and "__new__" in vars(base)]
    for maker in makers:
        function = getattr(maker, "__func__", maker)
        if not isinstance(function, FunctionType):
            return True  # compiled: it cannot be read
        if not _asks_further(function, _DEPTH, set()):
            return False
    # A mere base of classes that are made otherwise is never made itself.
    heirs: list[type] = kind.__subclasses__()
    is_base = not makers and "__init__" not in vars(kind) and bool(heirs)
    return not (is_base and not any(is_made_anew(heir) for heir in heirs))


def _asks_further(function: FunctionType, depth: int, seen: set[CodeType]) -> bool:
    """Tell whether ``function`` or what it calls by name asks the next class for the new object."""
    names = set(names_in(function.__code__))
    if "__new__" in names:
        return True
    seen.add(function.__code__)
    called = [function.__globals__.get(name) for name in names]
    own = [each for each in called if isinstance(each, FunctionType) and each.__code__ not in seen]
    # Torch's own functions make no tensors of others' classes in this way.
    own = [each for each in own if not (each.__module__ or "").startswith("torch.")]
    return depth > 0 and any(_asks_further(each, depth - 1, seen) for each in own)


def _kinds(base: type) -> Iterator[type]:
    """Yield all classes of tensors but torch's own."""
    kinds: list[type] = type.__subclasses__(base)
    for kind in kinds:
        if not kind.__module__.startswith("torch."):
            yield kind
        yield from _kinds(kind)


@contextlib.contextmanager
def entered(mode: TorchDispatchMode) -> Iterator[None]:
    """Enter ``mode``; leave it in whatever order the modes of what runs inside are left.

    A program may enter a mode of its own in a step, and leave it in a later hook.
    """
    mode.__enter__()
    try:
        yield
    finally:
        above: list[Any] = []
        # By torch's own methods: a mode that has ways of its own to begin and to end does neither now.
        while (top := _get_current_dispatch_mode()) not in (mode, None):
            TorchDispatchMode.__exit__(top, None, None, None)
            above.append(top)
        if top is mode:
            mode.__exit__(None, None, None)
        for other in reversed(above):
            TorchDispatchMode.__enter__(other)
