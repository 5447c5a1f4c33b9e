"""What one look gathers: activations and outputs, their numbers still on the device."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lightning_debugkit.replay.source_lines import SourceLine


@dataclass(eq=False)
class Site:
    """An activation function at one place of the network, over all of its calls in one look."""

    op: str  # operation such as `aten.relu.default`
    kind: str  # `floor` if it is flat below one, `ends` if it is flat at both ends, `rows` for attention
    place: SourceLine  # line and module that called it
    layer: str  # the layer whose units it acts on, empty if unknown
    trains: bool  # that layer gets a gradient
    is_direct: bool  # nothing lies between the layer and it
    is_exact: bool = False  # its derivative is exactly zero where it is flat
    floor: float = 0.0  # where it becomes flat, for `floor`
    is_inner: bool = False  # a layer comes after it
    is_gate: bool = False  # a sigmoid whose output multiplies another activation
    # an attention of torch's own, which divides its scores by the square root of the width of a head
    is_scaled: bool = False
    samples: int = 0  # size of the batch, over all calls
    rows: int = 0  # entries of each unit, over all calls
    # `floor`: largest value of each unit; `ends`: entries of each unit at the low and the high end; `rows`: one-hot
    # rows, rows with a choice
    numbers: Tensor | None = None
    active: Tensor | None = None  # active entries of an average unit, over all calls

    def add(self, numbers: Tensor, samples: int, rows: int, active: Tensor | None = None) -> None:
        """Take up one more call."""
        self.samples += samples
        self.rows += rows
        if self.numbers is None:
            self.numbers = numbers
        else:
            self.numbers = torch.maximum(self.numbers, numbers) if self.kind == "floor" else self.numbers + numbers
        if active is not None:
            self.active = active * rows if self.active is None else self.active + active * rows


@dataclass(frozen=True)
class Stage:
    """A layer's output after one operation on its way to the loss."""

    op: str
    place: SourceLine | None = None  # line and module that called it, `None` if it is the layer itself


@dataclass(eq=False)
class Output:
    """What a layer gave out, as far as it has got on its way to the loss."""

    layer: str  # dotted path of the layer, empty if it was not seen
    stages: list[Stage]  # the operations that changed it, the layer first
    held: list[Tensor]  # the tensor after each of them; let go as soon as another layer takes it
    tensor: Tensor | None  # as far as it has got, after views
    wanted: Tensor | None = None  # how far the targets differ that it is compared with
    numbers: Tensor | None = None  # after each stage, how far samples differ, and the size of the largest entry
    rows: int = 0

    def move(self, tensor: Tensor, stage: Stage | None) -> None:
        """Go on to ``tensor``; without a stage its numbers are what they were."""
        self.tensor = tensor
        if stage is None:
            self.held[-1] = tensor
        else:
            self.stages.append(stage)
            self.held.append(tensor)

    def release(self) -> None:
        """Let go of the tensors."""
        self.tensor = None
        self.held.clear()


@dataclass(eq=False)
class Scale:
    """The size of a layer's output or input, over all calls in one look."""

    sizes: list[Tensor] = field(default_factory=list)

    @property
    def rms(self) -> Tensor:
        return torch.stack(self.sizes).square().mean().sqrt()


def is_bare(part: nn.Module | None) -> bool:
    """Tell whether a module is a mere function: no parameters, no parts."""
    if part is None:
        return False
    return not part._modules and all(parameter is None for parameter in part._parameters.values())
