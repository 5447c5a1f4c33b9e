"""One operation of a watched step: what it was given, and what is known of that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from types import FrameType
from typing import Any

from torch import Tensor

from lightning_debugkit.monitors.activations.dataflow import Dataflow, Known, Weight


@dataclass
class OperationCall:
    """An operation under way."""

    name: str  # name such as `relu_`
    func: Any  # the operation itself
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    tensors: list[Tensor]
    known: list[Known | None]  # what is known of each
    # what was read of its input before it ran: the peak of each unit, the share of active entries
    before: tuple[Tensor, Tensor] | None = None
    frame: FrameType | None = None  # where it was called
    flows: list[Dataflow] = field(init=False)
    weights: list[Weight] = field(init=False)

    def __post_init__(self) -> None:
        self.flows = [known for known in self.known if isinstance(known, Dataflow)]
        self.weights = [known for known in self.known if isinstance(known, Weight)]

    @property
    def op(self) -> str:
        return str(self.func)

    @cached_property
    def source(self) -> tuple[Tensor, Dataflow]:
        """The first argument that flows, and what is known of it."""
        return next((t, k) for t, k in zip(self.tensors, self.known, strict=True) if isinstance(k, Dataflow))

    @cached_property
    def others(self) -> list[Known | None]:
        """What is known of its other arguments that are not made of parameters alone."""
        index = next(index for index, known in enumerate(self.known) if isinstance(known, Dataflow))
        rest = [*self.known[:index], *self.known[index + 1 :]]
        return [known for known in rest if not isinstance(known, Weight)]

    @property
    def trains(self) -> bool:
        """Tell whether one of its parameters gets a gradient."""
        return any(weight.trains for weight in self.weights)

    @property
    def named(self) -> dict[str, Any]:
        """Its arguments by name."""
        by_place = {a.name: value for a, value in zip(self.func._schema.arguments, self.args, strict=False)}
        return {**by_place, **self.kwargs}

    @property
    def is_in_place(self) -> bool:
        return bool(self.func._schema.is_mutable)


def tensors_in(values: Any) -> Iterator[Tensor]:
    """Yield the tensors of nested lists and tuples."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)
