"""Looks at many tensors at once: norms in one pass, bits that do not lie, a few entries that stand for all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import _disable_current_modes, is_traceable_wrapper_subclass

_MEASURED = frozenset({torch.float32, torch.float64, torch.bfloat16, torch.float16})
_PLAIN = (Tensor, nn.Parameter)
_KINDS = frozenset(_PLAIN)
_dtype = attrgetter("dtype")
_device = attrgetter("device")
_layout = attrgetter("layout")
_version = attrgetter("_version")
_readable: dict[tuple[type, torch.dtype], bool] = {}  # what was found out of classes of tensors
# Entries of tensors, on average, up to which a copy of all of them takes less time on a CPU than a norm of each by
# itself, of which each costs a microsecond and more (measured).
_SHORT = 512
_SEVERAL = 16  # tensors from which on it does: of fewer, the calls that both ways need take as long
_CHUNK = 1 << 22  # entries looked at together: bounds the memory of a look at the bits of a large tensor


class unobserved:
    """Ask inside without a trace: the user's function and dispatch modes do not see it, and no graph is made of it."""

    def __enter__(self) -> None:
        self._functions = torch._C.DisableTorchFunction()
        self._modes = _disable_current_modes() if torch._C._len_torch_dispatch_stack() else None
        self._functions.__enter__()
        # As torch.no_grad() does; its own way in and out takes longer than the norms of a small model. A function mode
        # would see it.
        self._makes_graph = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)
        if self._modes is not None:
            self._modes.__enter__()

    def __exit__(self, *error: object) -> None:
        torch._C._set_grad_enabled(self._makes_graph)
        if self._modes is not None:
            self._modes.__exit__(None, None, None)
        self._functions.__exit__(None, None, None)


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm of each tensor, without a copy to the host.

    Whole numbers, and what has no storage, do not train: their norm is given as 0.

    Shapes:
        tensors: any shapes, on any devices; returns (len(tensors),) float32, or float64 where one of them is.

    >>> norms([torch.tensor([3.0, 4.0]), torch.zeros(2, 2), torch.tensor([3 + 4j])])
    tensor([5., 0., 5.])
    """
    if not tensors:
        return torch.zeros(0)
    with unobserved():
        return torch.stack([*each_norm([*tensors])])


def each_norm(tensors: list[Tensor], types: Collection[torch.dtype] = ()) -> Sequence[Tensor]:
    """Return the norm of each tensor as `norms` has it, each a tensor of its own on the device of the first.

    Shapes:
        tensors: any shapes; returns as many of shape (), all of one type.
        types: their types of numbers as `alike` has found them, where they are known.
    """
    if not tensors:
        return []
    with unobserved():
        types = types or alike(tensors)
        found = _plain_norms(tensors, types) if types and {*map(type, tensors)} <= _KINDS else None
        return _any_norms(tensors) if found is None else found


def alike(tensors: Sequence[Tensor]) -> frozenset[torch.dtype]:
    """Return the types of numbers of dense tensors of one device, nothing if they are not all of that kind."""
    types = frozenset(map(_dtype, tensors))
    is_alike = types <= _MEASURED and len({*map(_device, tensors)}) == 1 and {*map(_layout, tensors)} == {torch.strided}
    return types if is_alike and {*map(type, tensors)} <= _KINDS and not tensors[0].is_meta else frozenset()


def are_short(tensors: Sequence[Tensor]) -> bool:
    """Tell whether norms of tensors that are `alike` take least time from a copy of all their entries.

    >>> are_short([torch.zeros(3)] * 20), are_short([torch.zeros(3)] * 4), are_short([torch.zeros(999)] * 20)
    (True, False, False)
    """
    sizes = [tensor.numel() for tensor in tensors]
    is_on_host = len(sizes) >= _SEVERAL and tensors[0].device.type == "cpu"
    return is_on_host and min(sizes) > 0 and sum(sizes) <= _SHORT * len(sizes)


def are_dense(tensors: Sequence[Tensor]) -> bool:
    """Tell whether all are of torch's own classes, with a place in memory for each entry."""
    return {*map(type, tensors)} <= _KINDS and {*map(_layout, tensors)} <= {torch.strided}


def entries(tensors: Sequence[Tensor]) -> Tensor:
    """Return all entries of dense tensors of one device, one after the other.

    >>> entries([torch.tensor([[1.0], [2.0]]), torch.tensor(True)])
    tensor([1., 2., 1.])
    """
    flat: Tensor = _flatten_dense_tensors(tensors)
    return flat


def _plain_norms(tensors: list[Tensor], types: Collection[torch.dtype]) -> Sequence[Tensor] | None:
    """Return the norms of dense tensors of one device; ``None`` if there are others among them."""
    kind = torch.float64 if torch.float64 in types else torch.float32
    try:
        # In half precision the norm itself would overflow: it is accumulated and returned in a wider type.
        if len(types) == 1 and kind in types:
            return torch._foreach_norm(tensors)
        return torch._foreach_norm(tensors, 2, dtype=kind)
    except (RuntimeError, NotImplementedError):  # sparse or nested
        return None


def _any_norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    local = [_measurable(tensor) for tensor in tensors]
    wide = any(tensor.dtype == torch.float64 for tensor in local)
    kind = torch.float64 if wide else torch.float32
    low = any(tensor.dtype != kind for tensor in local)
    found = torch._foreach_norm(local, 2, dtype=kind) if low else torch._foreach_norm(local)
    device = found[0].device
    return [norm if norm.device == device else norm.to(device) for norm in found]


def _measurable(tensor: Tensor) -> Tensor:
    held = tensor if type(tensor) in _PLAIN and tensor.layout is torch.strided else _values(tensor)
    if held.dtype in _MEASURED and not (held.is_meta or held.is_nested):
        return held
    return _unusual(held)


def _unusual(tensor: Tensor) -> Tensor:
    held = _values(tensor)
    if held.is_meta or not held.is_floating_point():
        return torch.zeros(1, device="cpu" if held.is_meta else held.device)
    return held.float() if held.dtype not in _MEASURED else held  # the 8-bit types know no norm


def values(tensor: Tensor) -> Tensor:
    """Return the numbers that this process holds of a dense, sparse, nested, complex or distributed tensor.

    Shapes:
        tensor: any shape; returns it, or for sparse and nested tensors their entries; with a last dimension of two for
            the parts of complex numbers, and a first one for tensors that are made of several like themselves.

    >>> values(torch.tensor([0.0, 2.0]).to_sparse()), values(torch.tensor([1 - 2j]))
    (tensor([2.]), tensor([[ 1., -2.]]))
    """
    if not (torch._C._len_torch_function_stack() or torch._C._len_torch_dispatch_stack()) and _is_plain(tensor):
        return tensor.detach()  # nobody is there to see it
    with unobserved():
        return _values(tensor)


def _values(tensor: Tensor) -> Tensor:
    if _is_plain(tensor):
        return tensor.detach()
    if is_lazy(tensor):  # it has no numbers yet
        return torch.zeros(0)
    tensor = tensor.detach()
    if hasattr(tensor, "to_local"):  # DTensor
        tensor = tensor.to_local()
    if layers := layers_of(tensor):
        return torch.stack(layers)
    if tensor.layout is not torch.strided or tensor.is_nested:
        tensor = _entries(tensor)
    if tensor.is_complex():
        return torch.view_as_real(tensor.resolve_conj())
    return tensor.int_repr() if tensor.is_quantized else tensor


def layers_of(tensor: Tensor) -> list[Tensor]:
    """Return the tensors that one of a wrapping class is made of, if it is made of several like itself, else nothing.

    What such a class computes is of its own class again, and has no numbers but theirs.
    """
    wrapping: Any = tensor
    if type(tensor) in _KINDS or not is_traceable_wrapper_subclass(wrapping):
        return []
    parts = [getattr(tensor, name) for name in wrapping.__tensor_flatten__()[0]]
    is_like = all(type(part) in _KINDS and (part.shape, part.dtype) == (tensor.shape, tensor.dtype) for part in parts)
    return parts if is_like and len(parts) > 1 and tensor.dtype in _MEASURED else []


def _is_plain(tensor: Tensor) -> bool:
    """Tell whether the numbers of ``tensor`` are its entries, of a type that is measured."""
    is_dense = type(tensor) in _KINDS and tensor.layout is torch.strided and not tensor.is_nested
    return is_dense and tensor.dtype in _MEASURED


def _entries(tensor: Tensor) -> Tensor:
    if tensor.layout is torch.sparse_coo:
        return tensor.coalesce().values()
    return tensor.to_dense() if str(tensor.layout) == "torch._mkldnn" else tensor.values()


def is_readable(tensor: Tensor) -> bool:
    """Tell whether `norms` can measure ``tensor``: a class of the user's or a library's may not allow it.

    >>> is_readable(torch.ones(2))
    True
    """
    if type(tensor) in _PLAIN:
        return True
    kind = (type(tensor), tensor.dtype)
    if kind not in _readable:
        try:
            # A class that wraps others may answer with one of itself, which the host cannot read.
            _readable[kind] = type(norms([tensor])) is Tensor and type(some(tensor, 1)) is Tensor
        except Exception:
            _readable[kind] = False
    return _readable[kind]


def version(tensor: Tensor) -> int:
    """Return how often ``tensor`` was written to; 0 for one made in inference mode, whose writes nobody counts."""
    return 0 if tensor.is_inference() else tensor._version


def versions(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    """Return how often each of ``tensors`` was written to, as `version` has it."""
    try:
        return tuple(map(_version, tensors))
    except RuntimeError:  # one was made in inference mode
        return tuple(map(version, tensors))


def bits(tensor: Tensor) -> int:
    """Return a number that is equal for equal bits, whatever the device and the order of summation.

    Of a tensor that gives no numbers it is 0.

    >>> bits(torch.tensor([1.0, 2.0])) == bits(torch.tensor([1.0, 2.0]))
    True
    >>> bits(torch.tensor([1.0, 2.0])) == bits(torch.tensor([1.0, 2.0000002]))
    False
    """
    held = values(tensor).resolve_neg().contiguous() if is_readable(tensor) else torch.zeros(0)
    if held.is_meta:
        return 0
    if held.dtype == torch.bool:
        held = held.to(torch.uint8)
    width = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[held.dtype.itemsize]
    flat = held.view(-1).view(width)
    total = torch.zeros((), dtype=torch.int64, device=flat.device)
    for start in range(0, flat.numel(), _CHUNK):
        part = flat[start : start + _CHUNK]
        # Weights make a swap of two entries visible; int64 sums wrap around alike everywhere.
        weights = torch.arange(start + 1, start + 1 + part.numel(), device=flat.device) % 65_521 + 1
        total += (part.to(torch.int64) * weights).sum()
    return int(total)


def some(tensor: Tensor, count: int = 256) -> Tensor:
    """Return a copy of at most ``count`` evenly spread entries.

    >>> some(torch.arange(10.0), count=5)
    tensor([0., 2., 4., 6., 8.])
    """
    if _is_plain(tensor) and tensor.numel() <= count:
        return tensor.detach().clone().reshape(-1)
    flat = values(tensor).reshape(-1)
    stride = max(1, -(-flat.numel() // count))
    return flat[::stride].clone()
