"""What each operation of a step is given and returns: where the input is lost, where samples mix, what gives only 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lightning_debugkit.core.compat import is_transformed
from lightning_debugkit.core.loss_functions import CHECKED_LOSSES
from lightning_debugkit.preflight.calling_frame import calling_frame
from lightning_debugkit.preflight.loss_calls import LAYERS
from lightning_debugkit.preflight.operations import DIFFERENCES, PRODUCTS
from lightning_debugkit.replay.source_lines import SourceLine, place_of
from lightning_debugkit.stats.tensor_norms import unobserved

LOST = (
    "the prediction does not depend on the input: {op} at {place} is given other numbers for other samples and returns "
    "the same{norm}"
)
LOST_AT = "Look at that line, and at what it is given: a factor of 0, a range that is cut off, a mask that hides all."
NORM_OF_ONE = "Leave the norm out, or normalise over the features of a sample where it has several."
# What makes new numbers of a form alone, or a choice that may well be the same.
_FRESH = {
    "ones_like", "zeros_like", "empty_like", "full_like", "rand_like", "randn_like", "new_ones", "new_zeros",
    "new_empty", "new_full", "detach_", "requires_grad_",
}  # fmt: skip
_NORMS = {"layer_norm", "rms_norm"}
FLOORS = {"relu", "relu6", "leaky_relu", "prelu"}
SMOOTH = {
    "sigmoid", "hardsigmoid", "tanh", "gelu", "silu", "mish", "elu", "selu", "celu", "softplus", "softsign",
    "hardswish",
}  # fmt: skip
# Relative difference of two sums in float64 that is no rounding of what was summed in float32.
SAME = 1e-5
MATRIX = 2  # dimensions
PAIRS = {"matmul", "__matmul__", "__rmatmul__", "mm", "einsum", "cdist", "cosine_similarity", "pairwise_distance"}


class OperationTrace(TorchFunctionMode):
    """Hear each operation of torch in the step around which it is entered; nothing is changed."""

    def saw(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        """Take what torch's function ``name`` was given and has returned."""
        raise NotImplementedError

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        __tracebackhide__ = True
        result = func(*args, **kwargs or {})
        with unobserved():
            self.saw(getattr(func, "__name__", ""), args, kwargs or {}, result)
        return result


@dataclass(frozen=True)
class Operation:
    """One operation of a step that returned floats."""

    op: str
    place: SourceLine
    given: float  # a number of its arguments that another order of entries changes, too
    returned: float  # the same of its result
    is_norm_of_one: bool  # it is a norm over one number


class InputTrace(OperationTrace):
    """Keep a number of what each operation is given and returns; enter it around two runs and compare them."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self._names = names

    def saw(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        is_floats = _is_plain(result) and result.is_floating_point()
        if not (is_floats and result.numel()) or name in _FRESH | CHECKED_LOSSES or is_transformed():
            return
        given = sum(_number(arg) for arg in args if _is_plain(arg))
        shape = args[1] if len(args) > 1 else ()
        is_of_one = name in _NORMS and isinstance(shape, Sequence) and prod(shape) == 1
        place = place_of(calling_frame(), self._names)
        self.operations.append(Operation(name, place, given, _number(result), is_of_one))


def last_alike(one: InputTrace, other: InputTrace) -> Operation | None:
    """Return the last operation that was given other numbers and returned the same, ``None`` if there is none."""
    pairs = zip(one.operations, other.operations, strict=False)
    found = [a for a, b in pairs if a.op == b.op and a.given != b.given and a.returned == b.returned]
    return found[-1] if found else None


class RowTrace(OperationTrace):
    """Keep, for each operation, sums over the slices of its result along the dimensions that samples may lie in.

    Enter it around two runs of one step that differ in the first samples alone; the first operation that differs in
    more than their share of each such dimension is the one that mixes samples, whichever way they lie.
    """

    def __init__(self, names: Mapping[int, str], size: int) -> None:
        super().__init__()
        self.results: list[tuple[str, SourceLine, list[Tensor]]] = []
        self.size = size
        self._names = names

    def saw(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        if name in CHECKED_LOSSES or is_transformed():
            return
        # Attention and recurrent layers return several.
        for part in result if isinstance(result, tuple) else (result,):
            if _is_plain(part) and part.is_floating_point() and part.numel():
                dims = [dim for dim, count in enumerate(part.shape) if count % self.size == 0]
                if dims:
                    values, place = part.detach().double(), place_of(calling_frame(), self._names)
                    self.results.append((name, place, [_sums(values, dim) for dim in dims]))


class PairTrace(OperationTrace):
    """Enter it around one step; `is_found` says whether it compares each sample with each, or columns over all."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.is_found = False
        self._size = size

    def saw(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        if not isinstance(result, Tensor) or result.is_nested or result.ndim < MATRIX:
            return
        is_square = result.shape[0] == result.shape[1]
        is_of_samples = result.shape[0] % self._size == 0
        if name in PAIRS:
            is_over_samples = isinstance(args[0], Tensor) and args[0].shape[-1] % self._size == 0
            self.is_found = self.is_found or (is_square and (is_of_samples or is_over_samples))
        # (N, 1, D) with (1, N, D). Of a matrix, the layers of a network make squares, too.
        elif name in DIFFERENCES | PRODUCTS and result.ndim > MATRIX:
            self.is_found = self.is_found or (is_square and is_of_samples)


def first_mixing(one: RowTrace, other: RowTrace, changed: int) -> tuple[str, SourceLine] | None:
    """Return the first operation, with its place, that mixes samples, so many of which are others in one of two runs.

    ``None`` if none could be told.
    """
    for (name, place, before), (again, _, after) in zip(one.results, other.results, strict=False):
        if name != again or [each.shape for each in before] != [each.shape for each in after]:
            return None
        if all(_differ(a, b) > changed * a.shape[1] // one.size for a, b in zip(before, after, strict=True)):
            return name, place
    return None


def _sums(values: Tensor, dim: int) -> Tensor:
    """Return a sum of each slice along ``dim``, and that of its sizes, by which it is judged ``(2, n)``.

    It is weighed: what softmax or a norm over the samples leaves as it was is the plain sum.
    """
    slices = values.movedim(dim, 0).reshape(values.shape[dim], -1)
    weights = torch.linspace(1, 2, slices.shape[1], dtype=values.dtype, device=values.device)
    return torch.stack([slices @ weights, slices.abs().sum(1)])


def _differ(one: Tensor, other: Tensor) -> int:
    """Return in how many slices two results differ by more than rounding."""
    scale = torch.maximum(one[1], other[1]).clamp_min(1e-12)
    return int(((one - other).abs() > SAME * scale).any(0).sum())


class Straightened(OperationTrace):
    """Enter it around one step; `is_found` says whether it has activations, and what they are given leaves no bend.

    One has each of its units on one side of its bend for all samples, some of them below it; or a smooth one, whose
    result a layer takes, was given so small a range that it is straight there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_found = False
        self._smooth: dict[int, Tensor] = {}  # results of smooth ones, and what was made of them

    def saw(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        if not isinstance(result, Tensor):
            return
        if name.rstrip("_") in FLOORS and result.ndim and result.numel() > 1:
            is_below = result <= 0
            is_fixed = is_below == is_below[:1] if len(result) > 1 else is_below
            self.is_found = self.is_found or bool(is_below.any() and is_fixed.all())
        if any(id(each) in self._smooth for each in args):
            self.is_found = self.is_found or name in LAYERS or name == "einsum"
            self._smooth[id(result)] = result
        elif name.rstrip("_") in SMOOTH:
            self._smooth[id(result)] = result


def _is_plain(value: Any) -> bool:
    return type(value) is Tensor and value.layout is torch.strided and not value.is_complex()


def _number(tensor: Tensor) -> float:
    flat = tensor.detach().reshape(-1).double()
    return float(flat @ torch.arange(1, len(flat) + 1, dtype=flat.dtype, device=flat.device).sqrt())
