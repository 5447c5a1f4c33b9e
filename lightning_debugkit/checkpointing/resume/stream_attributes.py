"""Streams that go on from where they were by their attributes: what has moved in them is kept, and set again.

A loader or dataset without a state of its own may count in an attribute where it is, and begin there when it is
iterated anew. What has not moved since it was made, such as a path or a size, is the program's and is never set.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset

from lightning_debugkit.checkpointing.resume.kept_values import is_small, is_unchanged
from lightning_debugkit.checkpointing.resume.rng_state import plain, unplain

# Objects that are followed: of a stream, within each other, and beside each other in a list.
_MOST, _DEEP, _WIDE = 64, 5, 32
_LOADERS_OWN = frozenset(vars(DataLoader(TensorDataset(torch.zeros(1))))) | {"_iterator"}

Found = dict[str, dict[str, Any]]


class StreamAttributes:
    """The attributes of streams, and of what they iterate over, that move after the streams were made."""

    def __init__(self, streams: Callable[[], Mapping[str, Any]]) -> None:
        self._streams = streams  # returns the loaders of now whose place is not known otherwise, by name
        self._first: dict[int, tuple[Any, dict[str, Any]]] = {}
        self._ever: dict[str, set[str]] = {}  # what has moved at any time, by path
        self._began: Found = {}

    def meet(self) -> None:
        """Remember the streams that are new as they are made, before they are iterated."""
        self._first = {
            id(item): self._first.get(id(item)) or (item, _kept(item)) for _, item in keepers(self._streams())
        }
        self.begin()

    def begin(self) -> None:
        """Note where the streams are before they are iterated for an epoch."""
        self._began = self._now()

    def state(self, under_way: bool) -> Found:
        """Return what moves, by the path of each object: where it was when the epoch's pass began, or else is now.

        ``moved`` are the values; ``opaque`` names what has become another and cannot be kept, ``suspended`` generators
        that were there from the beginning and wait within.
        """
        now = self._now()
        found = self._began if under_way else now
        return {
            path: {
                "moved": {name: value for name, value in entry["all"].items() if name in self._ever[path]},
                "opaque": entry["opaque"],
                "suspended": entry["suspended"],
            }
            for path, entry in found.items()
        }

    def restore(self, saved: Found) -> tuple[list[str], list[str]]:
        """Set what had moved, and all else as it was made; return what cannot be set, and what goes on within.

        An object is set whole or not at all: a mark that a file is open must not stand without the file.
        """
        left, suspended = [], []
        for path, item in keepers(self._streams()):
            entry = saved.get(path, {"moved": {}, "opaque": [], "suspended": []})
            suspended += [f"{type(item).__name__}.{name}" for name in entry["suspended"]]
            if entry["opaque"]:
                left += [f"{type(item).__name__}.{name}" for name in entry["moved"]]
            else:
                self._set(item, {name: unplain(value) for name, value in entry["moved"].items()})
                self._ever.setdefault(path, set()).update(entry["moved"])
        self.begin()
        return left, suspended

    def _set(self, item: Any, moved: dict[str, Any]) -> None:
        first, now = self._of(item), _kept(item)
        target = {name: value for name, value in first.items() if not isinstance(value, _Opaque)} | moved
        for name, value in target.items():
            if name not in now or not _is_same(now[name], value):
                setattr(item, name, copy.deepcopy(value))
        for name in now.keys() - first.keys() - target.keys():
            if not isinstance(now[name], _Opaque):
                delattr(item, name)  # made by the iterator that was dropped

    def _now(self) -> Found:
        found: Found = {}
        for path, item in keepers(self._streams()):
            first, now = self._of(item), _kept(item)
            differ = [name for name, value in now.items() if name not in first or not _is_same(first[name], value)]
            self._ever.setdefault(path, set()).update(name for name in differ if not isinstance(now[name], _Opaque))
            found[path] = {
                "all": {name: plain(value) for name, value in now.items() if not isinstance(value, _Opaque)},
                "opaque": [name for name in differ if isinstance(now[name], _Opaque)],
                "suspended": [name for name, value in vars(item).items() if name in first and _is_suspended(value)],
            }
        return found

    def _of(self, item: Any) -> dict[str, Any]:
        return self._first.get(id(item), (item, {}))[1]


class _Opaque:
    """Something that is known by nothing but its identity."""

    def __init__(self, value: Any) -> None:
        self.value = value


def keepers(streams: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the objects of the user's that are iterated over in streams, each with its path."""
    for name, stream in streams.items():
        package = type(stream).__module__.partition(".")[0]
        seen: set[int] = set()
        waiting = [(name, stream, 0)]
        while waiting and len(seen) < _MOST:
            path, item, depth = waiting.pop(0)
            if isinstance(item, list | tuple) and len(item) <= _WIDE:
                waiting += [(f"{path}.{at}", each, depth) for at, each in enumerate(item)]
            if id(item) in seen or depth > _DEEP or not _is_iterated(item, package):
                continue
            seen.add(id(item))
            package = type(item).__module__.partition(".")[0] if package == "torch" else package
            if type(item) is not DataLoader:
                yield path, item
            waiting += [(f"{path}.{key}", value, depth + 1) for key, value in _own(item, also=("dataset",))]


def _is_iterated(item: Any, package: str) -> bool:
    if not hasattr(item, "__dict__") or isinstance(item, type | Tensor | nn.Module | Sampler):
        return False
    if isinstance(item, DataLoader | Dataset):
        return True
    # What is foreign to the stream, such as a table or a file, is not followed.
    return hasattr(type(item), "__iter__") and package in (type(item).__module__.partition(".")[0], "torch")


def _own(item: Any, also: tuple[str, ...] = ()) -> list[tuple[str, Any]]:
    """Return the attributes of an object that are not a loader's own."""
    own = isinstance(item, DataLoader)
    return [(key, value) for key, value in vars(item).items() if not own or key not in _LOADERS_OWN or key in also]


def _kept(item: Any) -> dict[str, Any]:
    """Return a copy of each attribute that can be kept, and the identity of others; what is followed is left out."""
    package = type(item).__module__.partition(".")[0]
    return {
        key: copy.deepcopy(value) if is_small(value) else _Opaque(value)
        for key, value in _own(item)
        if not _is_iterated(value, package)
    }


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, _Opaque) or isinstance(other, _Opaque):
        return isinstance(one, _Opaque) and isinstance(other, _Opaque) and one.value is other.value
    return is_unchanged(one, other)


def _is_suspended(value: Any) -> bool:
    return inspect.isgenerator(value) and inspect.getgeneratorstate(value) == inspect.GEN_SUSPENDED
