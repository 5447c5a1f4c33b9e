"""One call of a loss function of torch, and what else is heard while a step runs."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from lightning_debugkit.replay.source_lines import SourceLine

# Layers: their result may be any number.
LAYERS = {
    "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "matmul",
    "__matmul__", "bmm", "mm", "addmm", "bilinear",
}  # fmt: skip
# Those whose result lies between 0 and 1, by kind, and their logarithms: given such a result, they see no logits.
_SHARES = {"sigmoid": "sigmoid", "special_expit": "sigmoid", "softmax": "softmax"}
_KINDS = _SHARES | {"log_softmax": "softmax", "log_sigmoid": "sigmoid"}
# Those that make any number positive, and, given the result of softplus, hold it above 1 or ln 2.
_POSITIVE = {"exp", "softplus"}
ATTENTION = "scaled_dot_product_attention"


@dataclass(frozen=True)
class Made:
    """How a tensor was made."""

    op: str
    place: SourceLine = field(default_factory=SourceLine)
    dim: int | None = None  # dimension it worked along, `None` where it has none
    size: int = 0  # entries along that dimension, 0 where it has none
    after: Made | None = None  # how its argument was made, `None` if that was not seen
    given: weakref.ref[Tensor] | None = field(default=None, compare=False)
    weight: float = 0.0  # mean of the labels that it was multiplied with
    count: int = 0  # entries in all

    @property
    def is_repeated(self) -> bool:
        """Tell whether sigmoid, or its logarithm, was given the result of sigmoid with nothing between; or softmax.

        Or what makes numbers positive that of softplus.
        """
        kind, before = _KINDS.get(self.op), self.after
        if self.op in _POSITIVE:
            return before is not None and before.op == "softplus"
        return kind is not None and before is not None and kind == _SHARES.get(before.op) and self.dim == before.dim


@dataclass(frozen=True)
class LossCall:
    """One call of a loss function of torch."""

    function: str  # its name, such as `cross_entropy`
    prediction: Tensor  # its first argument, detached; any shape
    target: Tensor  # its second argument, detached
    options: Mapping[str, Any]  # its further arguments by name
    place: SourceLine
    made: Made | None = None  # how the prediction was made, `None` if that was not seen
    truncated: bool = False  # the target was made of numbers that are not whole, by `Tensor.long` or its like
    are_pairs: bool = False  # the prediction compares each sample of the batch with all
    are_cosines: bool = False  # the prediction is made of cosines, whose range is chosen
    result: Tensor | None = None  # what it returned, detached; `None` until it has

    @property
    def told(self) -> dict[str, Any]:
        """What each finding says of the call."""
        return {"function": self.function, "place": self.place.short or self.function, "source": self.place.source}


@dataclass(frozen=True)
class OuterCall:
    """A difference or comparison of ``(N, 1)`` with ``(N,)``: each entry of one meets all of the other."""

    op: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    place: SourceLine


@dataclass(frozen=True)
class ViewCall:
    """A tensor of the batch of shape ``given`` that is read as another shape, across the dimensions that it has."""

    op: str
    given: tuple[int, ...]
    shape: tuple[int, ...]
    place: SourceLine


@dataclass(frozen=True)
class NoiseCall:
    """Dropout that is on although the module is in eval mode; ``is_stray`` if by a module that is no part of it."""

    op: str
    probability: float
    place: SourceLine
    is_stray: bool = False


@dataclass(frozen=True)
class NormCall:
    """A batch norm in training that is given one number a sample and channel: it needs two samples."""

    size: int
    place: SourceLine
