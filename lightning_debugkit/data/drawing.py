"""Draw samples of data sets once more than the program does, and leave no trace of it."""

from __future__ import annotations

import contextlib
import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence, Set
from functools import partial
from inspect import getattr_static
from itertools import islice
from threading import Thread, local
from types import FunctionType, MethodType, ModuleType, NoneType
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset

from lightning_debugkit.core.held_state import OTHERS, container_kept, refill, rename
from lightning_debugkit.core.program_code import is_installed, names_in
from lightning_debugkit.core.rng import GENERATORS, RandomState, generator_kept

_DEEP = 8  # objects within objects
_FEW = 100  # entries of a list or dict that are looked at
_MOST = 10_000  # objects
_SMALL = 10_000  # entries of one that is put back: data themselves are only read; counters, logs and caches are small
_READ_BY = ("__getitem__", "__getitems__", "__call__", "forward")
_DATA = (str, bytes, int, float, type, ModuleType, Tensor, np.ndarray)

Kept: TypeAlias = tuple[Any, Callable[[], Any] | None]


class CannotDraw(RuntimeError):
    """Drawing a sample would change what the program draws next; the message says why."""


@contextlib.contextmanager
def drawing(datasets: Sequence[Any], is_asked: bool = False) -> Iterator[None]:
    """Let samples be drawn; afterwards random numbers and what the data sets hold are as before.

    Put back are generators, places in open files, attributes and small containers, of the data sets, their classes and
    all that they hold, and what their code names outside of itself.

    Args:
        is_asked: The user asks for it: random numbers alone are put back, and iterators go on.

    Raises:
        CannotDraw: There is an iterator among these, which nobody can wind back, or a thread.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(RandomState.capture().restore)
        for value, undo in _all_kept(datasets):
            if is_asked and not isinstance(value, GENERATORS):
                continue
            if undo is None:
                raise CannotDraw("the samples come from an iterator or a thread, which cannot be wound back")
            stack.callback(undo)
        yield


def _all_kept(datasets: Sequence[Any]) -> list[Kept]:
    try:
        return list(_kept(list(datasets), _DEEP, {}))
    except Exception:  # whatever an object of the user's raises when it is looked at
        return [(None, None)]


def _kept(value: Any, depth: int, seen: dict[int, Any]) -> Iterator[Kept]:
    """Yield each thing that reading may change, and what puts it back: ``None`` for what nobody can."""
    if value is None or isinstance(value, _DATA) or id(value) in seen or not depth or len(seen) > _MOST:
        return
    if isinstance(value, FunctionType):
        yield from _of_code(value, depth, seen)
        return
    seen[id(value)] = value  # objects that are alive keep their ids
    if isinstance(value, GENERATORS):
        yield value, generator_kept(value)
    elif isinstance(value, io.IOBase):
        yield value, _place_kept(value)
    elif hasattr(type(value), "__next__") or isinstance(value, Thread):
        yield value, None
    else:
        yield from _of_object(value, depth, seen)


def _of_object(value: Any, depth: int, seen: dict[int, Any]) -> Iterator[Kept]:
    if isinstance(value, dict | list | deque | set) and len(value) <= _SMALL:
        yield value, container_kept(value)
    if here := _attributes(value):
        yield value, partial(refill, here, dict(here))
    for each in _held(value):
        yield from _kept(each, depth - 1, seen)
    if not _is_theirs(value):
        yield from _of_class(type(value), depth, seen)
        for name in _READ_BY:
            yield from _of_code(getattr(type(value), name, None), depth - 1, seen, type(value))


def _place_kept(file: io.IOBase) -> Callable[[], Any] | None:
    try:
        return partial(file.seek, file.tell())
    except (OSError, ValueError):  # a pipe, or one that is closed
        return None


def _is_theirs(value: Any) -> bool:
    """Tell whether an object is left alone: of torch, Lightning and the kit all but data sets and modules."""
    is_looked_into = isinstance(value, Dataset | nn.Module | local)
    return type(value).__module__.partition(".")[0] in OTHERS and not is_looked_into


def _attributes(value: Any) -> dict[str, Any]:
    """Return what an object holds itself."""
    return {} if _is_theirs(value) else getattr(value, "__dict__", {})


def _held(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from islice(value.values(), _FEW)
    elif isinstance(value, list | tuple | deque):
        yield from islice(value, _FEW)
    elif isinstance(value, partial | MethodType):
        yield value.func if isinstance(value, partial) else value.__func__
        yield [*value.args, *value.keywords.values()] if isinstance(value, partial) else value.__self__
    else:
        yield from list(_attributes(value).values())


def _of_class(kind: type, depth: int, seen: dict[int, Any]) -> Iterator[Kept]:
    """Yield what puts back the attributes of a class, such as a count of all reads; its code is not looked at."""
    for each in kind.__mro__:
        if id(each) in seen or each.__module__.partition(".")[0] in OTHERS:
            continue
        seen[id(each)] = each
        for name, found in list(vars(each).items()):
            if not (hasattr(type(found), "__get__") or (name.startswith("__") and name.endswith("__"))):
                yield each, partial(rename, each, name, found)
                yield from _kept(found, depth - 1, seen)


def _of_code(function: Any, depth: int, seen: dict[int, Any], owner: type = NoneType) -> Iterator[Kept]:
    """Yield what puts back the globals and the variables of outer functions that code of the program names.

    Methods of the class ``owner`` that it names are looked at, too.
    """
    if isinstance(function, property | staticmethod | classmethod):
        function = function.fget if isinstance(function, property) else function.__func__
    if not isinstance(function, FunctionType) or id(function) in seen or is_installed(function.__code__.co_filename):
        return
    seen[id(function)] = function
    here, names = function.__globals__, set(names_in(function.__code__))
    for name in here.keys() & names:
        yield from _named(here, name, names, depth, seen)
    for name in names:
        yield from _of_code(getattr_static(owner, name, None), depth, seen, owner)
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # not filled yet
            yield from _kept(cell.cell_contents, depth - 1, seen)


def _named(here: dict[str, Any], name: str, names: Set[str], depth: int, seen: dict[int, Any]) -> Iterator[Kept]:
    value = here[name]
    if isinstance(value, ModuleType):
        file = getattr(value, "__file__", None)
        if file and not is_installed(file):
            for other in vars(value).keys() & names:
                yield from _named(vars(value), other, frozenset(), depth, seen)
    elif isinstance(value, type):
        yield from _of_class(value, depth, seen)
    else:
        if not isinstance(value, FunctionType):
            yield here, partial(here.__setitem__, name, value)
        yield from _kept(value, depth - 1, seen)
