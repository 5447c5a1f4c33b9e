"""Optimizers that search within a step, and losses that are equations: both go where they should."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import LBFGS, Optimizer

from healthy.parts import Batch, Program, Supervised, digits, loader, mlp, program


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

    def step(self, closure: Callable[[], Any]) -> Any:
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


class Poisson(LightningModule):
    """Poisson's equation on random frequencies: its derivatives make the last gradients large, and harm nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", 3.0 * torch.randn(2, 64))
        self.net = mlp(128, 64, 1, act=nn.Tanh)
        nn.init.normal_(self.net[-1].weight, std=1e-3)
        self.net[-1].bias.requires_grad_(False)  # a constant is no part of a derivative

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        points = batch[0].requires_grad_()
        angles = points @ self.frequencies
        field = self.net(torch.cat([angles.sin(), angles.cos()], 1))
        (slope,) = torch.autograd.grad(field.sum(), points, create_graph=True)
        curvature = sum(torch.autograd.grad(slope[:, i].sum(), points, create_graph=True)[0][:, i] for i in range(2))
        force = 2 * torch.pi**2 * torch.sin(torch.pi * points).prod(1)
        loss = (curvature - 3 * force).square().mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


@program
def derivatives_of_a_physical_law() -> Program:
    return Program(Poisson(), loader(torch.rand(1024, 2)), trainer={"max_epochs": 6})
