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
FLOORS = {"relu", "relu6"}
# Relative difference of two sums in float64 that is no rounding of what was summed in float32.
SAME = 1e-5


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
    """One operation of a step that returned floats.

    Args:
        op: Name of torch's function.
        place: The user's line.
        given: A number of its arguments that another order of entries changes, too.
        returned: The same of its result.
        is_norm_of_one: It is a norm over one number.
    """

    op: str
    place: SourceLine
    given: float
    returned: float
    is_norm_of_one: bool


class InputTrace(OperationTrace):
    """Keep a number of what each operation is given and returns; enter it around two runs and compare them.

    Args:
        names: Dotted path of each module of the model, by ``id``.
    """

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
    """Keep, for each operation with a row a sample, two numbers that tell whether the rows but the first have changed.

    Enter it around two runs of one step that differ in sample 0 alone; the first operation that differs is the one
    that mixes samples.

    Args:
        names: Dotted path of each module of the model, by ``id``.
        size: Samples in the batch.
    """

    def __init__(self, names: Mapping[int, str], size: int) -> None:
        super().__init__()
        self.rows: list[tuple[str, SourceLine, float, float]] = []
        self._names = names
        self._size = size

    def saw(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        is_floats = _is_plain(result) and result.is_floating_point()
        is_by_sample = is_floats and result.ndim > 0 and result.shape[0] == self._size
        if is_by_sample and name not in CHECKED_LOSSES and not is_transformed():
            others = result.detach()[1:].double()
            place = place_of(calling_frame(), self._names)
            self.rows.append((name, place, float(others.sum()), float(others.abs().sum())))


def first_mixing(one: RowTrace, other: RowTrace) -> tuple[str, SourceLine] | None:
    """Return the first operation, with its place, whose rows but the first differ; ``None`` if none could be told."""
    for (name, place, total, size), (again, _, moved, wide) in zip(one.rows, other.rows, strict=False):
        if name != again:
            return None
        if max(abs(total - moved), abs(size - wide)) > SAME * max(size, wide, 1e-12):
            return name, place
    return None


class Silenced(OperationTrace):
    """Enter it around one step; `is_found` says whether one of its activations is dead: it gave nothing but 0."""

    def __init__(self) -> None:
        super().__init__()
        self.is_found = False

    def saw(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        if name.rstrip("_") in FLOORS and isinstance(result, Tensor) and result.numel() > 1:
            self.is_found = self.is_found or bool((result == 0).all())


def _is_plain(value: Any) -> bool:
    return type(value) is Tensor and value.layout is torch.strided and not value.is_complex()


def _number(tensor: Tensor) -> float:
    flat = tensor.detach().reshape(-1).double()
    return float(flat @ torch.arange(1, len(flat) + 1, dtype=flat.dtype, device=flat.device).sqrt())
