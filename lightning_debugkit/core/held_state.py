"""What the steps of a module can change beside its parameters and buffers: kept, and put back.

Attributes with what they hold; globals, attributes of classes and variables of outer functions that the steps' code
names. What nobody can wind back, such as an iterator, is found.
"""

from __future__ import annotations

import inspect
import sys
from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum
from functools import partial
from pathlib import PurePath
from threading import Thread
from types import CellType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from lightning_debugkit.core.compat import MODULE_OWNERS
from lightning_debugkit.core.kept_tensors import tensor_kept
from lightning_debugkit.core.program_code import is_installed, names_in
from lightning_debugkit.core.rng import GENERATORS, generator_kept

Undo = Callable[[], None]

_DEEP = 6  # objects within objects
_MOST = 100_000  # objects that are looked at
_LARGEST = 1 << 30  # bytes of an array that is kept twice
_FIXED = (
    *(str, bytes, int, float, complex, bool, type(None), type, range, slice, Enum, PurePath, ModuleType, np.generic),
    *(torch.Size, torch.device, torch.dtype),
)
_STEPS = ("forward", "training_step", "validation_step", "test_step")
_OF_TORCH = frozenset(vars(nn.Module()))  # hooks among them, ours too: what these hold is not the step's
# Objects of these packages are left alone: what a step does to them is known, or is theirs to keep.
OTHERS = frozenset(
    (
        *("builtins", "io", "_io", "functools", "logging", "threading", "_thread", "weakref", "numpy", "pandas", "PIL"),
        *("torch", "torchmetrics", "lightning", "lightning_fabric", "pytorch_lightning", "lightning_debugkit"),
    )
)
_DATA = (Dataset, DataLoader, Sampler)  # they are read, and may be large
_OWN = __name__.partition(".")[0]
_SHARDED = {"FSDPModule", "FullyShardedDataParallel"}  # of torch, by either of its two ways to shard


def cannot_undo(module: nn.Module) -> str:
    """Return why a step of ``module`` must not be run once more than the program does, empty if it may.

    >>> layer = nn.Linear(2, 2)
    >>> cannot_undo(layer)
    ''
    >>> layer.rows = iter([1, 2])
    >>> cannot_undo(layer)
    'self.rows is a list_iterator, which cannot be wound back'
    """
    if _is_cut(module):
        return "weights are cut over processes, none of which runs a step by itself"
    return HeldState(module, is_kept=False).why


def _is_cut(module: nn.Module) -> bool:
    """Tell whether weights are DTensors, or will be: FSDP puts whole ones there for a while, and frees them."""
    kinds = {kind.__name__ for part in module.modules() for kind in type(part).__mro__}
    return bool(kinds & _SHARDED) or any(hasattr(parameter, "to_local") for parameter in module.parameters())


class HeldState:
    """What the steps of a module can change, as it is when this is made."""

    def __init__(self, module: nn.Module, is_kept: bool = True) -> None:
        self.why = ""
        self.undo: list[Undo] = []
        self._is_kept = is_kept  # keep it, so that `undo` puts it back; else it is only looked at
        self._left = _MOST
        self._seen: dict[int, Any] = {}  # objects that are alive keep their ids
        self._functions: dict[int, FunctionType] = {}
        self._own = {id(part) for part in module.modules()}
        for path, part in module.named_modules():
            self._attributes(f"self.{path}" if path else "self", part)
        for name in _STEPS:
            self._code(getattr(type(module), name, None), type(module))

    def _keep(self, undo: Callable[[], Undo]) -> None:
        if self._is_kept:
            self.undo.append(undo())

    def _attributes(self, path: str, part: nn.Module) -> None:
        here = vars(part)
        self._keep(lambda: container_kept(here))
        for name, value in list(here.items()):
            if name in _OF_TORCH:
                if isinstance(value, dict):
                    self._keep(partial(container_kept, value))
            elif name not in MODULE_OWNERS:
                self._value(f"{path}.{name}", value, _DEEP)

    def _value(self, path: str, value: Any, depth: int) -> None:
        if isinstance(value, _FIXED) or id(value) in self._seen or not depth:
            return
        self._left -= 1
        if self._left < 0:
            self._refuse("it holds too many objects to be kept")
            return
        self._seen[id(value)] = value
        try:
            self._look(path, value, depth)
        except Exception:  # whatever an object of the user's raises when it is looked at
            self._refuse(f"{path} is a {type(value).__name__}, which cannot be looked at")

    def _look(self, path: str, value: Any, depth: int) -> None:
        if isinstance(value, (Tensor, np.ndarray, *GENERATORS)):
            self._numbers(path, value)
        elif isinstance(value, nn.Module):
            self._module(path, value)
        elif isinstance(value, dict | list | deque | set | tuple):
            self._container(path, value, depth - 1)
        elif hasattr(type(value), "__next__"):
            if not any(value is stream for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)):
                self._refuse(f"{path} is a {type(value).__name__}, which cannot be wound back")
        else:
            self._object(path, value, depth - 1)

    def _refuse(self, why: str) -> None:
        self.why = self.why or why

    def _numbers(self, path: str, value: Any) -> None:
        if isinstance(value, Tensor):
            if not (isinstance(value, nn.Parameter) or value.is_meta or nn.parameter.is_lazy(value)):
                self._keep(lambda: tensor_kept(value))
        elif isinstance(value, GENERATORS):
            self._keep(lambda: generator_kept(value))
        elif value.nbytes > _LARGEST:
            self._refuse(f"{path} is too large to be kept")
        else:
            self._keep(lambda: partial(_rewrite, value, value.copy()))

    def _module(self, path: str, module: nn.Module) -> None:
        """Look at a module in a list, or behind an object, where torch does not see it."""
        if id(module) in self._own:
            return
        for name, part in module.named_modules():
            self._own.add(id(part))
            self._attributes(f"{path}.{name}" if name else path, part)
        for tensor in (*module.parameters(), *module.buffers()):
            if not (tensor.is_meta or nn.parameter.is_lazy(tensor)):
                self._keep(partial(tensor_kept, tensor, on_host=True))

    def _container(self, path: str, value: Any, depth: int) -> None:
        if not isinstance(value, tuple):
            self._keep(lambda: container_kept(value))
        if isinstance(value, dict):
            for key, item in list(value.items()):
                if not isinstance(item, _FIXED):
                    self._value(f"{path}[{key!r}]" if isinstance(key, str | int) else path, item, depth)
        elif not isinstance(value, set):
            self._items(path, value, depth)

    def _items(self, path: str, values: Any, depth: int) -> None:
        for at, item in enumerate(list(values)):
            if not isinstance(item, _FIXED):
                self._value(f"{path}[{at}]", item, depth)

    def _object(self, path: str, value: Any, depth: int) -> None:
        if isinstance(value, FunctionType):
            self._code(value)
        elif isinstance(value, Thread):
            if value.is_alive():
                self._refuse(f"{path} is a thread that works beside the step")
        elif isinstance(value, MethodType):
            self._value(path, value.__self__, depth)
        elif isinstance(value, partial):
            self._items(path, (value.func, *value.args, *value.keywords.values()), depth)
        elif not _is_of_others(value):
            here = getattr(value, "__dict__", None)
            if isinstance(here, dict):
                self._keep(lambda: partial(refill, here, dict(here)))
            slots = dict(_slots(value))
            if slots:
                self._keep(lambda: partial(_reslot, value, slots))
            for name, item in [*(here or {}).items(), *slots.items()]:
                self._value(f"{path}.{name}", item, depth)

    def _code(self, function: Any, owner: type | None = None) -> None:
        """Look at what the code of a function of the user's names, and at the functions that it calls by name."""
        if isinstance(function, staticmethod | classmethod | MethodType):
            function = function.__func__
        function = inspect.unwrap(function) if isinstance(function, FunctionType) else function
        if not isinstance(function, FunctionType) or id(function) in self._functions or _is_installed(function):
            return
        self._functions[id(function)] = function
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self._cell(name, cell)
        names, here = set(names_in(function.__code__)), function.__globals__
        if "open" in names - here.keys():
            self._refuse(f"{function.__qualname__} opens a file")
        for name in sorted(names):
            if name in here:
                self._named(name, here, names)
            if owner is not None and (found := inspect.getattr_static(owner, name, None)) is not None:
                self._of_class(owner, name, found)

    def _named(self, name: str, here: dict[str, Any], names: set[str]) -> None:
        value = here[name]
        if isinstance(value, ModuleType):
            if not _is_installed(value):
                for other in sorted(names & vars(value).keys()):
                    self._named(other, vars(value), set())
        elif isinstance(value, FunctionType):
            self._code(value)
        elif isinstance(value, type):
            for other in sorted(names & vars(value).keys()):
                self._of_class(value, other, vars(value)[other])
        else:
            self._keep(lambda: partial(here.__setitem__, name, value))
            self._value(name, value, _DEEP)

    def _of_class(self, owner: type, name: str, found: Any) -> None:
        if isinstance(found, FunctionType | staticmethod | classmethod):
            self._code(found, owner)
        elif isinstance(found, property):
            self._code(found.fget, owner)
        else:
            holder = next((kind for kind in owner.__mro__ if name in vars(kind)), owner)
            if holder.__module__.partition(".")[0] not in OTHERS and not hasattr(type(found), "__get__"):
                self._keep(lambda: partial(rename, holder, name, found))
                self._value(name, found, _DEEP)

    def _cell(self, name: str, cell: CellType) -> None:
        try:
            held = cell.cell_contents
        except ValueError:  # not filled yet
            return
        self._keep(lambda: partial(setattr, cell, "cell_contents", held))
        self._value(name, held, _DEEP)


def _is_installed(made: FunctionType | ModuleType) -> bool:
    if ((made.__module__ if isinstance(made, FunctionType) else made.__name__) or "").startswith(_OWN):
        return True
    file = made.__code__.co_filename if isinstance(made, FunctionType) else getattr(made, "__file__", None) or ""
    return is_installed(file) or (not file and isinstance(made, ModuleType))


def _is_of_others(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] in OTHERS or isinstance(value, _DATA)


def _slots(value: Any) -> Iterator[tuple[str, Any]]:
    for kind in type(value).__mro__:
        for name, member in vars(kind).items():
            if isinstance(member, MemberDescriptorType) and name not in ("__dict__", "__weakref__"):
                try:
                    yield name, member.__get__(value)
                except AttributeError:  # never filled
                    continue


def container_kept(value: Any) -> Undo:
    """Return what puts back the entries of a dict, list, deque or set."""
    if isinstance(value, dict):
        return partial(refill, value, dict(value))
    if isinstance(value, set):
        return partial(_remember, value, set(value))
    return partial(_relist, value, list(value))


def refill(here: dict[Any, Any], kept: dict[Any, Any]) -> None:
    """Put back the entries of a dict, as that of an object's attributes."""
    if here.keys() != kept.keys() or any(here[name] is not value for name, value in kept.items()):
        here.clear()
        here.update(kept)


def _remember(value: set[Any], members: set[Any]) -> None:
    if value != members:
        value.clear()
        value.update(members)


def _relist(value: Any, items: list[Any]) -> None:
    if len(value) != len(items) or any(here is not kept for here, kept in zip(value, items, strict=True)):
        value.clear()
        value.extend(items)


def _rewrite(value: Any, kept: Any) -> None:
    if value.tobytes() != kept.tobytes():
        value[...] = kept


def rename(owner: type, name: str, kept: Any) -> None:
    if vars(owner).get(name) is not kept:
        setattr(owner, name, kept)


def _reslot(value: Any, kept: dict[str, Any]) -> None:
    for name, item in kept.items():
        if getattr(value, name, None) is not item:
            setattr(value, name, item)
