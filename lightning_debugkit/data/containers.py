"""What a batch is packed in: how each kind of container is opened, and made anew with other things in it."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import types
from collections import UserString
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from numbers import Number
from pathlib import PurePath
from typing import Any, TypeAlias
from uuid import UUID

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

# How something is reached from what holds it: its key, its position or ``.name`` of its attribute.
Items: TypeAlias = list[tuple[str, Any]]

_TEXTS = (str, bytes, bytearray, memoryview, UserString)
_PLAIN = (*_TEXTS, int, float, complex, type(None), np.generic, torch.Size, range, slice)
_SHARED = (datetime.date, datetime.time, datetime.timedelta, PurePath, UUID, Enum, Number, torch.device, torch.dtype)
_CLOSED = (nn.Module, type, types.ModuleType, torch.device, torch.dtype, torch.Generator, set, frozenset)
_DEEP = 8


class CannotSplit(ValueError):
    """A batch, or a part of it, cannot be taken apart into samples; the message says why."""


def is_plain(value: Any) -> bool:
    """Tell whether ``value`` is a number, a text or nothing."""
    return isinstance(value, _PLAIN)


def is_opaque(value: Any) -> bool:
    """Tell whether nobody can say what a leaf holds: it is neither a number, a text nor an object that can be opened.

    >>> is_opaque(object()), is_opaque(datetime.date(2000, 1, 1)), is_opaque(types.SimpleNamespace(split="train"))
    (True, False, False)
    """
    if isinstance(value, set | frozenset):
        return not all(map(is_plain, value))
    return not (is_plain(value) or isinstance(value, _SHARED) or callable(value) or attributes(value))


def is_array(value: Any) -> bool:
    """Tell whether ``value`` is a NumPy array; a scalar of NumPy's is a plain value."""
    return isinstance(value, np.ndarray)


def is_graphs(value: Any) -> bool:
    """Tell whether ``value`` is a graph of PyTorch Geometric, or a batch of them, which knows itself what is whose."""
    return all(hasattr(type(value), name) for name in ("num_nodes", "to_dict", "keys"))


def is_dense_dict(value: Any) -> bool:
    """Tell whether ``value`` is a ``TensorDict``, or a class of tensors made of one: it is indexed as a whole."""
    # Asked of its class: what an object of the user's does when it is asked for an attribute is not known.
    return hasattr(type(value), "batch_dims") and isinstance(getattr(value, "batch_size", None), torch.Size)


def is_record(value: Any) -> bool:
    """Tell whether ``value`` is an object whose attributes hold a tensor or an array, at whatever depth."""
    return not isinstance(value, Sequence) and _holds_tensor(value, _DEEP, set())


def items_of(value: Any) -> Items | None:
    """Return what a container holds, ``None`` for a leaf.

    >>> items_of({"image": 1}), items_of((1, 2)), items_of("text")
    ([('image', 1)], [('0', 1), ('1', 2)], None)
    """
    if isinstance(value, Tensor | np.ndarray) or is_plain(value):
        return None
    if isinstance(value, list | tuple):
        return [(key, item) for key, item in zip(_positions(value), value, strict=True)]
    if isinstance(value, Mapping):
        return [(str(key), item) for key, item in value.items()]
    if is_graphs(value):
        return _of_graphs(value)
    if isinstance(value, Sequence):
        return [(str(at), item) for at, item in enumerate(value)]
    if is_dense_dict(value):
        return [(str(key), value.get(key)) for key in value.keys()]  # noqa: SIM118  # a class of tensors is no mapping
    return [(f".{name}", item) for name, item in attributes(value).items()] if is_record(value) else None


def attributes(value: Any) -> dict[str, Any]:
    """Return the attributes that an object holds itself, in its ``__dict__`` and in slots; none is computed."""
    if isinstance(value, _CLOSED) or callable(value):
        return {}
    held = dict(getattr(value, "__dict__", None) or {})
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            own = f"_{kind.__name__.lstrip('_')}{name}" if name.startswith("__") and name[-2:] != "__" else name
            if name not in ("__dict__", "__weakref__") and isinstance(vars(kind).get(own), types.MemberDescriptorType):
                try:
                    held[own] = getattr(value, own)
                except AttributeError:  # a slot that was never filled
                    continue
    return held


def leaves(batch: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``(path, leaf)`` of what a batch holds, such as ``("1.boxes", tensor)``; attributes stand as ``.name``.

    >>> [path for path, _ in leaves({"image": 1, "targets": [2, {"boxes": 3}]})]
    ['image', 'targets.0', 'targets.1.boxes']
    """
    yield from _leaves(batch, path, ())


def _leaves(value: Any, path: str, above: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    items = None if isinstance(value, Tensor) or id(value) in above else items_of(value)
    if items is None:
        yield path, value
        return
    for key, item in items:
        # An object may hold what holds it.
        yield from _leaves(item, f"{path}.{key}" if path else key, (*above, id(value)))


def tensors(tree: Any) -> Iterator[Tensor]:
    """Yield all tensors that something holds."""
    for _, leaf in _leaves(tree, "", ()):
        if isinstance(leaf, Tensor):
            yield leaf


def rebuilt(value: Any, items: list[Any]) -> Any:
    """Return a container like ``value`` that holds ``items``, in the order of `items_of`.

    Raises:
        CannotSplit: It cannot be made.
    """
    try:
        if isinstance(value, list | tuple):
            return _sequence(value, items)
        if isinstance(value, Mapping):
            return _mapping(value, dict(zip(value.keys(), items, strict=True)))
        if isinstance(value, Sequence):
            return type(value)(items)  # type: ignore[call-arg]  # as UserList and deque are made
        return _record(value, dict(zip(attributes(value), items, strict=True)))
    except CannotSplit:
        raise
    except Exception as error:
        raise CannotSplit(f"no {type(value).__name__} can be made of a part of it ({type(error).__name__})") from error


def list_like(value: Any, items: list[Any]) -> Any:
    """Return a list like ``value`` that holds ``items``, however many there are."""
    return rebuilt(value, items) if not hasattr(value, "_fields") else list(items)


def _positions(value: Sequence[Any]) -> Sequence[str]:
    fields = getattr(value, "_fields", None)
    return [f".{name}" for name in fields] if fields is not None else [str(at) for at in range(len(value))]


def _of_graphs(value: Any) -> Items:
    found: Items = []
    for key, item in value.to_dict().items():
        if isinstance(item, Mapping):  # of a node or edge type
            name = ".".join(map(str, key)) if isinstance(key, tuple) else str(key)
            found += [
                (str(inner), each) if name == "_global_store" else (f"{name}.{inner}", each)
                for inner, each in item.items()
            ]
        else:
            found.append((f".{key}", item))
    return found


def _sequence(value: Any, items: list[Any]) -> Any:
    if isinstance(value, PackedSequence):
        raise CannotSplit("a packed sequence is taken apart as a whole")
    make = getattr(value, "_make", None)
    return make(items) if make is not None else type(value)(items)


def _mapping(value: Mapping[Any, Any], items: dict[Any, Any]) -> Any:
    if type(value) is dict:
        return items
    try:
        source: Any = value
        made = source.copy() if is_dense_dict(value) else copy.copy(source)
        for key, item in items.items():
            made[key] = item
        if all(made[key] is item for key, item in items.items()):
            return made
    except Exception:  # one that cannot be written to, or copied: it may be made of a dict
        made = None
    try:
        return type(value)(items)  # type: ignore[call-arg]  # as UserDict is made
    except Exception:
        return items


def _record(value: Any, items: dict[str, Any]) -> Any:
    # Neither `__init__` nor a frozen class's own `__setattr__` has a say: nothing but the tensors becomes another.
    try:
        made = object.__new__(type(value))
    except TypeError:  # a class that is not made in Python
        made = copy.copy(value)
        for name, item in items.items():
            setattr(made, name, item)
        return made
    for name, item in items.items():
        if name in getattr(value, "__dict__", {}):
            made.__dict__[name] = item
        else:
            object.__setattr__(made, name, item)
    return made


def _holds_tensor(value: Any, depth: int, seen: set[int]) -> bool:
    if isinstance(value, Tensor | np.ndarray | PackedSequence):
        return True
    if not depth or is_plain(value) or id(value) in seen:
        return False
    seen.add(id(value))
    if isinstance(value, Mapping):
        inside: Any = value.values()
    elif isinstance(value, list | tuple):
        inside = value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        inside = [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    else:
        inside = attributes(value).values()
    return any(_holds_tensor(item, depth - 1, seen) for item in list(inside)[:1_000])
