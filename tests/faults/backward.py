"""Numbers that are born in the backward pass, while the forward is finite."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.registry import Classifier, Module, Program, batches, diabetes, digits, fault, mlp, recorded


class Siamese(Module):
    """Contrastive loss on pairs of images."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.encoder = mlp(64, 64, 16)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        first, second, same = batch
        squared = (self.encoder(first) - self.encoder(second)).square().sum(1)
        if self.mended:
            squared = squared + 1e-6
        distance = squared.sqrt()
        return (same * distance**2 + (1 - same) * F.relu(1 - distance) ** 2).mean()


@fault("nonfinite-gradient", source="squared.sqrt()", op="sqrt")
def pair_of_the_same_image(mended: bool) -> Program:
    """The gradient of sqrt at 0: a pair that holds one image twice."""
    x, y = digits(1024)
    partner = torch.randperm(1024)
    partner[partner == torch.arange(1024)] = 0
    partner[333] = 333
    same = (y == y[partner]).float()
    return recorded(Siamese(mended), x, x[partner], same, bad=[333], mended=mended)


class Inpainter(Module):
    """Root mean square error over the pixels that are known."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.net = mlp(64, 32, 64)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, known = batch
        error = ((self.net(x * known) - x) ** 2 * known).sum(1) / known.sum(1).clamp(min=1)
        if self.mended:
            error = error + 1e-8
        return torch.sqrt(error).mean()


@fault("nonfinite-gradient", source="torch.sqrt(error)", op="sqrt")
def image_without_known_pixels(mended: bool) -> Program:
    """The gradient of sqrt(mse) at 0, for an image whose mask is empty."""
    x, _ = digits(1024)
    known = (torch.rand(1024, 64) < 0.7).float()
    known[512] = 0
    return recorded(Inpainter(mended), x, known, bad=[512], mended=mended)


class EnergyPooling(nn.Module):
    """The root mean square of each channel."""

    def __init__(self, floor: float) -> None:
        super().__init__()
        self.floor = floor

    def forward(self, x: Tensor) -> Tensor:
        energy = x.square().mean((2, 3)) + self.floor
        return energy**0.5


@fault("nonfinite-gradient", "net.1", source="energy**0.5", op="pow")
def pooling_of_a_black_image(mended: bool) -> Program:
    """The gradient of a root at 0, in a submodule: a black image through layers without bias."""
    x, y = digits(1024)
    x[90] = 0
    conv = nn.Conv2d(1, 16, 3, bias=False)
    net = nn.Sequential(conv, EnergyPooling(1e-4 if mended else 0.0), nn.Linear(16, 10))
    return recorded(Classifier(mended, net), x.view(-1, 1, 8, 8), y, bad=[90], mended=mended)


class SignedSqrt(torch.autograd.Function):
    """sign(x) sqrt|x|, with a backward that forgets what happens at 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, floor: float) -> Tensor:
        root = x.abs().sqrt()
        ctx.save_for_backward(root)
        ctx.floor = floor
        return x.sign() * root

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (root,) = ctx.saved_tensors
        return grad / (2 * root + ctx.floor), None


class Compress(nn.Module):
    def __init__(self, floor: float) -> None:
        super().__init__()
        self.floor = floor

    def forward(self, x: Tensor) -> Tensor:
        return SignedSqrt.apply(x, self.floor)


@fault("nonfinite-gradient", "compress", source="SignedSqrt.apply(", op="SignedSqrt")
def custom_backward_at_zero(mended: bool) -> Program:
    """A custom autograd.Function whose backward divides by 0."""

    class Net(Classifier):
        def __init__(self) -> None:
            super().__init__(mended, mlp(64, 32, 10))
            self.project = nn.Linear(64, 64, bias=False)
            self.compress = Compress(0.1 if mended else 0.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(self.compress(self.project(x)))

    x, y = digits(1024)
    x[450] = 0
    return recorded(Net(), x, y, bad=[450], mended=mended)


class LogOfPositive(Module):
    """A loss on log counts, which passes over the zeros with ``torch.where`` after the logarithm."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.net = mlp(10, 32, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y, present = batch
        amount = F.softplus(self.net(x)) * present
        if self.mended:
            amount = torch.where(present > 0, amount, 1.0)
        log_amount = torch.where(present > 0, torch.log(amount), 0.0)
        return F.mse_loss(log_amount, y * present)


@fault("nonfinite-gradient", source="torch.log(amount)", op="log", at_step=0)
def where_after_the_logarithm(mended: bool) -> Program:
    """The branch that ``torch.where`` leaves out poisons the gradient; the loss is finite."""
    x, y = diabetes()
    present = (torch.rand_like(y) < 0.7).float()
    return Program(LogOfPositive(mended), batches(x, y, present), trainer={"max_epochs": 4})


class PolarTarget(Module):
    """A radius that is masked after the root was taken: the forward has no infinity anywhere."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.net = mlp(10, 32, 2)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y, valid = batch
        offset = self.net(x) * valid
        r2 = offset.square().sum(1, keepdim=True)
        if self.mended:
            r2 = torch.where(valid > 0, r2, 1.0)
        radius = torch.where(valid > 0, torch.sqrt(r2), torch.zeros_like(r2))
        return F.mse_loss(radius, y.abs() * valid)


@fault("nonfinite-gradient", source="torch.sqrt(r2)", op="sqrt")
def where_after_the_root(mended: bool) -> Program:
    """The same with a root: 0/0 in the backward of the branch that is left out."""
    x, y = diabetes()
    valid = torch.ones_like(y)
    valid[111] = 0
    return recorded(PolarTarget(mended), x, y, valid, bad=[111], mended=mended, max_epochs=4)


@fault("nonfinite-gradient", source="squared.sqrt()", op="sqrt", samples=[5], at_step=6, batch_idx=25)
def second_micro_batch_of_four(mended: bool) -> Program:
    """Accumulation: the gradient breaks in the second of four micro-batches, the update comes after the fourth."""
    x, y = digits(1024)
    partner = torch.roll(torch.arange(1024), 1)
    partner[25 * 16 + 5] = 25 * 16 + 5
    loader = batches(x, x[partner], (y == y[partner]).float(), size=16, shuffle=False)
    return Program(Siamese(mended), loader, trainer={"max_epochs": 3, "accumulate_grad_batches": 4})
