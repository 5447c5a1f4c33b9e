"""Steps to replay, without Lightning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debugkit.core.rng import RandomState
from lightning_debugkit.replay.diagnosis import Diagnosis, ReplayStep, diagnose

X = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A layer, what is to be tried, and a head."""

    def __init__(self, middle: Callable[[Tensor], Tensor] | nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(3, 4)
        self.middle = middle if isinstance(middle, nn.Module) else Call(middle) if middle else nn.Identity()
        self.head = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.first(x)))


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def step_of(module: nn.Module, batch: Any, loss: Callable[[nn.Module, Any], Tensor]) -> ReplayStep:
    return ReplayStep(module, batch, RandomState.capture(), lambda part, backward: backward(loss(module, part)))


def diagnosed(
    module: nn.Module, batch: Any = X, loss: Callable[[nn.Module, Any], Tensor] | None = None
) -> Diagnosis | None:
    """The diagnosis of one step; the loss is the mean square of the output unless another is given."""
    return diagnose(step_of(module, batch, loss or (lambda model, part: model(part).square().mean())))
