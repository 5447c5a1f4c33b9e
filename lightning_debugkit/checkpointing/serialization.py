"""Turn a checkpoint into bytes, and take a copy of it that training cannot change."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, NoneType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

_BUFFER = 1 << 20  # bytes: torch writes each tensor in four small pieces
_NEVER_STORAGES = frozenset(
    (int, float, str, bytes, bool, NoneType, tuple, list, dict, OrderedDict, type, FunctionType, BuiltinFunctionType)
) | {Tensor, torch.nn.Parameter, type(torch.FloatStorage)}
_HOSTED = frozenset(("cpu", "cuda"))


class _Pickler(pickle.Pickler):
    """Writes what torch writes, to the byte, in less time: its Python takes longer for small files than the disk."""

    def __init_subclass__(cls) -> None:
        ask = cls.persistent_id

        def persistent_id(self: pickle.Pickler, each: Any) -> Any:
            return None if type(each) in _NEVER_STORAGES else ask(self, each)

        cls.persistent_id = persistent_id  # type: ignore[method-assign]  # of torch's own subclass

    def reducer_override(self, each: Any) -> Any:
        """Return what ``Tensor.__reduce_ex__`` returns of a plain tensor; leave all else to its own class."""
        kind = type(each)
        if kind is OrderedDict and not each and not each.__dict__:
            return OrderedDict, ()
        if kind is not Tensor or each.device.type not in _HOSTED or not _is_plain(each):
            return NotImplemented
        if each.__dict__ or each._backward_hooks is not None:
            return NotImplemented
        held = torch.TypedStorage(wrap_storage=each.untyped_storage(), dtype=each.dtype, _internal=True)
        seen = each.storage_offset(), tuple(each.size()), each.stride()
        return torch._utils._rebuild_tensor_v2, (held, *seen, each.requires_grad, OrderedDict())


_PICKLE = SimpleNamespace(__name__="pickle", Pickler=_Pickler)


def save_bytes(checkpoint: Any, path: Path) -> None:
    """Stream a checkpoint to ``path``, as ``torch.save`` does: no second copy of it is held in memory."""
    with path.open("wb", buffering=_BUFFER) as file:
        torch.save(checkpoint, file, pickle_module=_PICKLE)


def tensor_snapshot(checkpoint: Any) -> Any:
    """Return a copy in host memory; tensors that share their memory do so in the copy, too."""
    return _copied(checkpoint, {})


def _copied(value: Any, memory: dict[Any, Any]) -> Any:
    if isinstance(value, Tensor):
        return _tensor(value, memory)
    if type(value) is dict:
        return {key: _copied(item, memory) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_copied(item, memory) for item in value)
    if isinstance(value, dict):  # an OrderedDict with its own attributes, such as a state_dict
        again = copy.copy(value)
        for key, item in value.items():
            again[key] = _copied(item, memory)
        return again
    return copy.deepcopy(value)


def _tensor(tensor: Tensor, memory: dict[Any, Any]) -> Tensor:
    if tensor.is_meta:
        return tensor.detach()
    if not _is_plain(tensor):
        return tensor.detach().clone().cpu()
    held = tensor.untyped_storage()
    key = (tensor.device, held.data_ptr(), held.nbytes())
    if key not in memory:
        memory[key] = held.clone() if tensor.device.type == "cpu" else held.cpu()
    empty = torch.empty(0, dtype=tensor.dtype)
    return empty.set_(memory[key], tensor.storage_offset(), tensor.size(), tensor.stride())


def _is_plain(tensor: Tensor) -> bool:
    """Tell whether a tensor is nothing but its memory, seen with strides."""
    if type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.layout is not torch.strided:
        return False
    return not (tensor.is_quantized or tensor.is_conj() or tensor.is_neg())
