"""cloudpickle, with functions that keep the file they were written in: a pickle module for ``torch.save``."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, MutableMapping
from types import CodeType
from typing import Any, ClassVar

import cloudpickle

_KNOWN: MutableMapping[type, Callable[[Any], Any]] = cloudpickle.Pickler.dispatch_table


def _reduced(code: CodeType) -> tuple[Callable[..., CodeType], tuple[Any, ...]]:
    # From 3.1.3 on cloudpickle writes "<dynamic-code>" for the file: a replay could not name the user's line.
    make, arguments, *_ = _KNOWN[CodeType](code)
    return _code, (code.co_filename, make, *arguments)


def _code(filename: str, make: Callable[..., CodeType], *arguments: Any) -> CodeType:
    return make(*arguments).replace(co_filename=filename)


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is untyped
    """Pickle classes and functions of the main script and of notebook cells by value, with file and lines."""

    dispatch_table: ClassVar = ChainMap[type, Callable[[Any], Any]]({CodeType: _reduced}, _KNOWN)
