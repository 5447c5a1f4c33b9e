"""cloudpickle, with functions that keep the file they were written in: a pickle module for ``torch.save``."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, MutableMapping
from types import CodeType, SimpleNamespace
from typing import Any, ClassVar

import cloudpickle
import torch
from torch import Tensor

_KNOWN: MutableMapping[type, Callable[[Any], Any]] = cloudpickle.Pickler.dispatch_table

_FEW = 1 / 4  # of the memory behind a tensor, below which it is written alone (a choice)


def _reduced(code: CodeType) -> tuple[Callable[..., CodeType], tuple[Any, ...]]:
    # From 3.1.3 on cloudpickle writes "<dynamic-code>" for the file: a replay could not name the user's line.
    make, arguments, *_ = _KNOWN[CodeType](code)
    return _code, (code.co_filename, make, *arguments)


def _code(filename: str, make: Callable[..., CodeType], *arguments: Any) -> CodeType:
    return make(*arguments).replace(co_filename=filename)


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is untyped
    """Pickle classes and functions of the main script and of notebook cells by value, with file and lines."""

    dispatch_table: ClassVar = ChainMap[type, Callable[[Any], Any]]({CodeType: _reduced}, _KNOWN)


def alone(tensors: Iterable[Tensor]) -> SimpleNamespace:
    """Return a pickle module that writes of each of ``tensors`` its own numbers, not the memory that it is a part of.

    A slice of a dataset would otherwise take the whole dataset along.
    """
    parts = {id(tensor): tensor for tensor in tensors if _is_part(tensor)}

    class Alone(Pickler):
        def reducer_override(self, obj: Any) -> Any:
            if id(obj) in parts:
                return parts[id(obj)].clone().__reduce_ex__(2)
            return super().reducer_override(obj)

    return SimpleNamespace(__name__=__name__, Pickler=Alone)


def _is_part(tensor: Tensor) -> bool:
    if type(tensor) is not Tensor or tensor.layout is not torch.strided or tensor.is_nested or tensor.requires_grad:
        return False
    return tensor.numel() * tensor.element_size() < _FEW * tensor.untyped_storage().nbytes()
