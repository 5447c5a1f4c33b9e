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
ATTENTION = "scaled_dot_product_attention"


@dataclass(frozen=True)
class Made:
    """How a tensor was made.

    Args:
        dim: Dimension it worked along, ``None`` where it has none.
        size: Entries along that dimension, 0 where it has none.
        count: Entries in all.
        after: How its argument was made, ``None`` if that was not seen.
        weight: Mean of the labels that it was multiplied with.
    """

    op: str
    place: SourceLine = field(default_factory=SourceLine)
    dim: int | None = None
    size: int = 0
    after: Made | None = None
    given: weakref.ref[Tensor] | None = field(default=None, compare=False)
    weight: float = 0.0
    count: int = 0

    @property
    def is_repeated(self) -> bool:
        """Tell whether sigmoid, or its logarithm, was given the result of sigmoid with nothing between; or softmax."""
        kind, before = _KINDS.get(self.op), self.after
        return kind is not None and before is not None and kind == _SHARES.get(before.op) and self.dim == before.dim


@dataclass(frozen=True)
class LossCall:
    """One call of a loss function of torch.

    Args:
        function: Its name, such as ``cross_entropy``.
        prediction: Its first argument, detached; any shape.
        target: Its second argument, detached.
        options: Its further arguments by name.
        made: How the prediction was made, ``None`` if that was not seen.
        truncated: The target was made of numbers that are not whole, by `Tensor.long` or its like.
        result: What it returned, detached; ``None`` until it has.
    """

    function: str
    prediction: Tensor
    target: Tensor
    options: Mapping[str, Any]
    place: SourceLine
    made: Made | None = None
    truncated: bool = False
    result: Tensor | None = None

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
