"""Which code is the program's own, and what it names."""

from __future__ import annotations

import inspect
import sysconfig
from collections.abc import Iterator
from pathlib import PurePath
from types import CodeType, FunctionType
from typing import Any

_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})

# Looks an attribute up by a name that stands nowhere; what these packages look up so is not the program's.
_DYNAMIC = {"getattr", "setattr", "vars", "__dict__", "__getattribute__", "eval", "exec"}
_KNOWN = ("torch", "lightning", "lightning_fabric", "pytorch_lightning", "torchmetrics")


def is_installed(file: str) -> bool:
    """Tell whether ``file`` is of the standard library or of an installed package."""
    return file.startswith(_INSTALLED) or "site-packages" in PurePath(file).parts


def names_in(code: CodeType) -> Iterator[str]:
    """Yield the names of globals and attributes that ``code`` uses, in functions within it, too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)


def names_reached(kind: type, *starts: str) -> set[str] | None:
    """Return the names that methods of ``kind`` use, with the functions that these name in turn.

    Args:
        kind: A class.
        starts: Its methods that are called.

    Returns:
        ``None`` if it cannot be told, as attributes are looked up by a name that the code makes.

    >>> class Bell:
    ...     def ring(self):
    ...         return self.tone()
    ...     def tone(self):
    ...         return self.height
    ...     def sell(self):
    ...         return self.price
    >>> sorted(names_reached(Bell, "ring"))
    ['height', 'tone']
    """
    names: set[str] = set()
    waiting: list[Any] = [vars(base).get(start) for start in starts for base in kind.__mro__]
    seen: set[int] = set()
    while waiting:
        function = _function(waiting.pop())
        if function is None or id(function) in seen:
            continue
        seen.add(id(function))
        own = set(names_in(function.__code__))
        if own & _DYNAMIC and (function.__module__ or "").partition(".")[0] not in _KNOWN:
            return None
        here = function.__globals__
        for name in own:
            waiting += [vars(base).get(name) for base in kind.__mro__]
            if not is_installed(function.__code__.co_filename):
                waiting.append(here.get(name))
        names |= own
    return names


def _function(found: Any) -> FunctionType | None:
    if isinstance(found, property):
        found = found.fget
    if isinstance(found, staticmethod | classmethod):
        found = found.__func__
    found = inspect.unwrap(found) if isinstance(found, FunctionType) else found
    return found if isinstance(found, FunctionType) else None
