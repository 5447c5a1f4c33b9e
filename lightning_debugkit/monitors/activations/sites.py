"""What one look gathers: activations and outputs, their numbers still on the device."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lightning_debugkit.replay.source_lines import SourceLine


@dataclass(eq=False)
class Site:
    """An activation function at one place of the network, over all of its calls in one look.

    Args:
        op: Operation such as ``aten.relu.default``.
        kind: ``floor`` if it is flat below one, ``ends`` if it is flat at both ends, ``rows`` for attention.
        place: Line and module that called it.
        layer: The layer whose units it acts on, empty if unknown.
        trains: That layer gets a gradient.
        is_direct: Nothing lies between the layer and it.
        is_exact: Its derivative is exactly zero where it is flat.
        floor: Where it becomes flat, for ``floor``.
        is_inner: A layer comes after it.
        is_gate: A sigmoid whose output multiplies another activation.
        is_scaled: An attention of torch's own, which divides its scores by the square root of the width of a head.
        samples: Size of the batch, over all calls.
        rows: Entries of each unit, over all calls.
        numbers: ``floor``: largest value of each unit; ``ends``: entries of each unit at the low and the high end;
            ``rows``: one-hot rows, rows with a choice.
        active: Active entries of an average unit, over all calls.
    """

    op: str
    kind: str
    place: SourceLine
    layer: str
    trains: bool
    is_direct: bool
    is_exact: bool = False
    floor: float = 0.0
    is_inner: bool = False
    is_gate: bool = False
    is_scaled: bool = False
    samples: int = 0
    rows: int = 0
    numbers: Tensor | None = None
    active: Tensor | None = None

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
    """A layer's output after one operation on its way to the loss.

    Args:
        place: Line and module that called it, ``None`` if it is the layer itself.
    """

    op: str
    place: SourceLine | None = None


@dataclass(eq=False)
class Output:
    """What a layer gave out, as far as it has got on its way to the loss.

    Args:
        layer: Dotted path of the layer, empty if it was not seen.
        stages: The operations that changed it, the layer first.
        held: The tensor after each of them; let go as soon as another layer takes it.
        tensor: As far as it has got, after views.
        wanted: How far the targets differ that it is compared with.
        numbers: After each stage, how far samples differ, and the size of the largest entry.
    """

    layer: str
    stages: list[Stage]
    held: list[Tensor]
    tensor: Tensor | None
    wanted: Tensor | None = None
    numbers: Tensor | None = None
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
