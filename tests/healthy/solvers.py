"""Optimizers that search within a step, along many gradients: a step leads as far as it should."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import LBFGS, Optimizer

from healthy.parts import Batch, Program, Supervised, digits, program


class Decayed(Supervised):
    """Logistic regression on all the digits at once, with a little weight decay: the minimum lies far from zero."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        penalty = sum(p.square().sum() for p in self.parameters())
        loss = F.cross_entropy(self(x), y) + 1e-5 * penalty
        self.log("loss", loss)
        return loss


def regression(optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]) -> Program:
    train, val = digits(batch_size=1440, flat=True)
    return Program(Decayed(nn.Linear(64, 10), F.cross_entropy, optimizer), train, val, {"max_epochs": 14})


@program
def lbfgs_classifier() -> Program:
    return regression(partial(LBFGS, lr=0.5, max_iter=10))


@program
def lbfgs_of_one_move_a_step() -> Program:
    """It asks for one gradient a step, and scales it by the curvature it has seen."""
    return regression(partial(LBFGS, lr=1.0, max_iter=1))


class Newton(Optimizer):
    """Conjugate gradients on the loss itself: each step minimises along ten directions, by secant moves."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__(list(parameters), {"lr": 1.0})

    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        held = self.param_groups[0]["params"]
        direction: list[Tensor] = []
        last: list[Tensor] = []
        loss = None
        for _ in range(10):
            with torch.enable_grad():
                loss = closure()
            down = [-p.grad for p in held]
            if last:
                gained = sum((d * (d - e)).sum() for d, e in zip(down, last, strict=True))
                beta = (gained / sum(e.square().sum() for e in last)).clamp_min(0)
                direction = [d + beta * e for d, e in zip(down, direction, strict=True)]
            else:
                direction = down
            slope = sum((d * e).sum() for d, e in zip(down, direction, strict=True))
            with torch.no_grad():
                for p, d in zip(held, direction, strict=True):
                    p.add_(d, alpha=0.1)
            with torch.enable_grad():
                closure()
            after = sum((-p.grad * d).sum() for p, d in zip(held, direction, strict=True))
            move = 0.1 * float(slope / (slope - after).clamp_min(1e-9))
            with torch.no_grad():
                for p, d in zip(held, direction, strict=True):
                    p.add_(d, alpha=min(move, 50.0) - 0.1)
            last = down
        return loss


@program
def conjugate_gradients() -> Program:
    return regression(Newton)
