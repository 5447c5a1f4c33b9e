"""Which operation lets one sample into what is computed of the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lightning_debugkit.core.compat import is_transformed
from lightning_debugkit.core.loss_functions import CHECKED_LOSSES
from lightning_debugkit.preflight.calling_frame import calling_frame
from lightning_debugkit.replay.source_lines import SourceLine, place_of
from lightning_debugkit.stats.tensor_norms import unobserved

# Relative difference of two sums in float64 that is no rounding of what was summed in float32.
SAME = 1e-5


class RowTrace(TorchFunctionMode):
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

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        __tracebackhide__ = True
        result = func(*args, **kwargs or {})
        name = getattr(func, "__name__", "")
        if not is_transformed() and name not in CHECKED_LOSSES and self._is_by_sample(result):
            with unobserved():
                others = result.detach()[1:].double()
                place = place_of(calling_frame(), self._names)
                self.rows.append((name, place, float(others.sum()), float(others.abs().sum())))
        return result

    def _is_by_sample(self, result: Any) -> bool:
        is_known = type(result) is Tensor and result.layout is torch.strided and result.is_floating_point()
        return is_known and result.ndim > 0 and result.shape[0] == self._size


def first_mixing(one: RowTrace, other: RowTrace) -> tuple[str, SourceLine] | None:
    """Return the first operation, with its place, whose rows but the first differ; ``None`` if none could be told."""
    for (name, place, total, size), (again, _, moved, wide) in zip(one.rows, other.rows, strict=False):
        if name != again:
            return None
        if max(abs(total - moved), abs(size - wide)) > SAME * max(size, wide, 1e-12):
            return name, place
    return None
