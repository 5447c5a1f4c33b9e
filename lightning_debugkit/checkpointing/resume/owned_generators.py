"""Random generators that objects own: in samplers, datasets, transforms and the model; found, read and set."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.data import DistributedSampler

from lightning_debugkit.checkpointing.resume.kept_values import is_small, is_unchanged
from lightning_debugkit.data.loaders import own_sampler, samplers_of

_DEEP, _WIDE, _MOST = 5, 32, 512
_DATA = frozenset({"data_source", "dataset"})  # what torch's samplers are of
_LEAVES = (int, float, bool, str, bytes, type(None), type, Tensor, FunctionType, MethodType, ModuleType)


class Owned:
    """The generators of some objects, each by the path on which it hangs, and the counters of samplers.

    Looked up anew each time: loaders come and go. Generators behind slots, closures or C code are not found.
    """

    def __init__(self, roots: Callable[[], Mapping[str, Any]]) -> None:
        self.roots = roots  # returns the objects of now, by name
        self._first: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()  # attributes of samplers, when new

    def states(self) -> dict[str, Any]:
        """Return the state of every generator, and the plain attributes of samplers that have moved since `meet`."""
        found: dict[str, Any] = {}
        for name, root in self.roots().items():
            found |= {path: _state(generator) for path, generator in generators(root, name)}
            found |= dict(self._moved(root, name))
        return found

    def restore(self, states: Mapping[str, Any]) -> list[str]:
        """Set the states; return the paths where nothing is found."""
        rest = dict(states)
        for name, root in self.roots().items():
            for path, generator in generators(root, name):
                if path in rest:
                    _set_state(generator, rest.pop(path))
            for path, sampler in samplers_of(root, name):
                first = self._first.get(sampler, {})
                for key, value in _attributes(sampler).items():
                    # What had not moved then is as it was made.
                    then = rest.pop(f"{path}.{key}", first.get(key, value))
                    if not is_unchanged(then, value):
                        setattr(sampler, key, copy.deepcopy(then))
        return list(rest)

    def meet(self, loader: Any) -> None:
        """Remember how the loader's samplers are made: what differs later is the state of an iteration."""
        for _, sampler in samplers_of(loader):
            self._first.setdefault(sampler, _attributes(sampler))

    def _moved(self, root: Any, name: str) -> Iterator[tuple[str, Any]]:
        for path, sampler in samplers_of(root, name):
            first = self._first.get(sampler)
            if first is None:
                continue
            for key, value in _attributes(sampler).items():
                # Lightning makes its own distributed sampler from the seed of the process.
                seed = isinstance(sampler, DistributedSampler) and key == "seed"
                if seed or key not in first or not is_unchanged(first[key], value):
                    yield f"{path}.{key}", value


def generators(root: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the random generators that hang on ``root``, by their path; each object is looked at once."""
    seen: set[int] = set()
    waiting = [(path, root, 0)]
    while waiting and len(seen) < _MOST:
        path, item, depth = waiting.pop(0)
        item = own_sampler(item)
        if id(item) in seen or depth > _DEEP or isinstance(item, _LEAVES):
            continue
        seen.add(id(item))
        if _kind(item) is not None:
            yield path, item
        elif isinstance(item, nn.Module):
            for name, part in item.named_modules():
                found = {key: value for key, value in vars(part).items() if _kind(value) is not None}
                yield from ((f"{path}.{name}.{key}", value) for key, value in found.items())
        else:
            waiting += [(f"{path}.{key}", value, depth + 1) for key, value in _parts(item)]


def _parts(item: Any) -> list[tuple[str, Any]]:
    if isinstance(item, Mapping):
        return [(str(key), value) for key, value in item.items()] if len(item) <= _WIDE else []
    if isinstance(item, list | tuple):
        return [(str(key), value) for key, value in enumerate(item)] if len(item) <= _WIDE else []
    # `_iterator` is a loader's, with its queues and processes.
    return [(k, v) for k, v in vars(item).items() if k != "_iterator"] if hasattr(item, "__dict__") else []


def _attributes(sampler: Any) -> dict[str, Any]:
    """Return a copy of each attribute that can be kept: lists and arrays are shuffled where they are."""
    held = {key: value for key, value in vars(sampler).items() if key not in _DATA}
    return {key: copy.deepcopy(value) for key, value in held.items() if is_small(value)}


def _kind(item: Any) -> str | None:
    numpy = sys.modules.get("numpy")
    if isinstance(item, torch.Generator):
        return "torch"
    if type(item) is random.Random:
        return "python"
    if numpy is not None and isinstance(item, numpy.random.RandomState):
        return "numpy"
    return "numpy-generator" if numpy is not None and isinstance(item, numpy.random.Generator) else None


def _state(generator: Any) -> Any:
    kind = _kind(generator)
    if kind == "numpy-generator":
        return generator.bit_generator.state
    return generator.getstate() if kind == "python" else generator.get_state()


def _set_state(generator: Any, state: Any) -> None:
    kind = _kind(generator)
    if kind == "numpy-generator":
        generator.bit_generator.state = state
    elif kind == "python":
        generator.setstate(state)
    else:
        generator.set_state(state)
