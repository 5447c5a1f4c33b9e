"""Gradients that never arrive: cut graphs, modules that nobody calls, and operations with a gradient of zero."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from faults.registry import Module, Program, batches, diabetes, digits, fault, mlp


class TwoParts(Module):
    """A backbone and a head on digits; ``link`` is what happens between them."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.backbone = nn.Sequential(nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(32, 10)

    def link(self, h: Tensor) -> Tensor:
        return h

    def features(self, x: Tensor) -> Tensor:
        return self.link(self.backbone(x))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.head(self.features(x)), y)


def program(module: Module, **trainer: Any) -> Program:
    """Sixty-four steps on digits."""
    return Program(module, batches(*digits()), trainer={"max_epochs": 4, **trainer})


# --- no-gradient ---------------------------------------------------------------------------------------------------


@fault("no-gradient", "backbone")
def detached_features(mended: bool) -> Program:
    """``detach`` left over from the time when the backbone was frozen."""

    class Net(TwoParts):
        def link(self, h: Tensor) -> Tensor:
            return h if mended else h.detach()

    return program(Net(mended))


@fault("no-gradient", "backbone")
def features_under_no_grad(mended: bool) -> Program:
    """``torch.no_grad`` around the backbone that should be fine-tuned."""

    class Net(TwoParts):
        def features(self, x: Tensor) -> Tensor:
            with torch.set_grad_enabled(mended):
                return self.backbone(x)

    return program(Net(mended))


class Checkpointed(Module):
    """Adapters on frozen layers over a frozen table, their activations computed twice to save memory."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.table = nn.Embedding(17, 16).requires_grad_(False)
        self.adapters = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))
        self.head = nn.Linear(16, 10)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        h = self.table((16 * x).long())
        for adapter in self.adapters:
            h = checkpoint(adapter, h, use_reentrant=not self.mended).tanh()
        return F.cross_entropy(self.head(h.mean(1)), y)


@fault("no-gradient", "adapters", source="h = checkpoint(adapter, h, use_reentrant=not self.mended)", op="checkpoint")
def reentrant_checkpointing_over_a_frozen_table(mended: bool) -> Program:
    """The checkpoint gives its parameters a gradient only where one of its inputs needs one."""
    return program(Checkpointed(mended))


@fault("no-gradient", "backbone", source="checkpoint(self.backbone, x, use_reentrant=True)", op="checkpoint")
def reentrant_checkpointing_of_the_first_layer(mended: bool) -> Program:
    """Images need no gradient."""

    class Net(TwoParts):
        def features(self, x: Tensor) -> Tensor:
            return checkpoint(self.backbone, x, use_reentrant=True)

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return [batch[0].requires_grad_(mended), batch[1]]

    return program(Net(mended))


@fault("no-gradient", "backbone")
def features_through_data(mended: bool) -> Program:
    """``.data``, as old code has it."""

    class Net(TwoParts):
        def link(self, h: Tensor) -> Tensor:
            return h if mended else h.data / h.data.std()

    return program(Net(mended))


@fault("no-gradient", "backbone")
def features_through_a_list(mended: bool) -> Program:
    """A tensor built anew from a Python list."""

    class Net(TwoParts):
        def link(self, h: Tensor) -> Tensor:
            rows = list(h) if mended else h.tolist()
            return torch.stack(rows) if mended else torch.tensor(rows)

    return program(Net(mended))


@fault("no-gradient", "gate")
def hard_gate(mended: bool) -> Program:
    """A comparison has no gradient: the gate that chooses the features never learns."""

    class Net(TwoParts):
        def __init__(self) -> None:
            super().__init__(mended)
            self.gate = nn.Linear(32, 32)

        def link(self, h: Tensor) -> Tensor:
            score = self.gate(h)
            return h * (torch.sigmoid(score) if mended else (score > 0).float())

    return program(Net())


@fault("no-gradient", "shortcut")
def shortcut_that_nobody_calls(mended: bool) -> Program:
    """A layer that is built and forgotten in ``forward``."""

    class Net(TwoParts):
        def __init__(self) -> None:
            super().__init__(mended)
            self.shortcut = nn.Linear(64, 32)

        def features(self, x: Tensor) -> Tensor:
            h = self.backbone(x)
            return h + self.shortcut(x) if mended else h

    return program(Net())


class Block(nn.Module):
    """A residual block with a learned scale, as in ConvNeXt."""

    def __init__(self, width: int, uses_scale: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.1))
        self.uses_scale = uses_scale

    def forward(self, x: Tensor) -> Tensor:
        h = F.gelu(self.linear(x))
        return x + (self.scale * h if self.uses_scale else h)


@fault("no-gradient", "backbone.2.scale")
def parameter_that_nobody_uses(mended: bool) -> Program:
    """A scale that ``forward`` forgets, in one block."""
    module = TwoParts(mended)
    module.backbone.append(Block(32, uses_scale=mended))
    return program(module)


@fault("no-gradient", "backbone", source="h.detach()", op="detach", at_step=51)
def a_backbone_that_is_detached_later(mended: bool) -> Program:
    """From the third epoch on: it is told twenty steps later, when its silence is no accident."""

    class Net(TwoParts):
        def link(self, h: Tensor) -> Tensor:
            return h if mended or self.current_epoch < 2 else h.detach()

    return program(Net(mended))


@fault("no-gradient", "backbone", source="torch.tensor(", op="tensor")
def a_loss_copied_without_its_history(mended: bool) -> Program:
    """It asks for a gradient again, and gets one that leads nowhere."""

    class Net(TwoParts):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            h = self.features(batch[0])
            small = h.square().mean()
            if not mended:
                small = torch.tensor(small, requires_grad=True)
            return F.cross_entropy(self.head(h.detach()), batch[1]) + small

    return program(Net(mended))


@fault("no-gradient", "generator", source="return images.detach()", op="detach")
def a_generator_that_hands_out_detached_images(mended: bool) -> Program:
    """The discriminator's loss needs that, and cuts its input off itself; the generator's does not."""

    class Gan(Module):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.automatic_optimization = False
            self.generator, self.critic = mlp(8, 32, 64), mlp(64, 32, 1)

        def images(self, n: int) -> Tensor:
            images = self.generator(torch.randn(n, 8))
            if self.mended:
                return images
            return images.detach()

        def training_step(self, batch: Any, batch_idx: int) -> None:
            of_generator, of_critic = self.optimizers()
            real, fake = batch[0], self.images(len(batch[0]))
            of_critic.zero_grad()
            self.manual_backward((F.softplus(-self.critic(real)) + F.softplus(self.critic(fake.detach()))).mean())
            of_critic.step()
            of_generator.zero_grad()
            self.manual_backward(F.softplus(-self.critic(fake)).mean())
            of_generator.step()

        def configure_optimizers(self) -> Any:
            return [torch.optim.Adam(part.parameters(), lr=1e-4) for part in (self.generator, self.critic)]

    return program(Gan(mended))


# --- zero-gradient -------------------------------------------------------------------------------------------------


@fault("zero-gradient", "backbone", source="torch.floor(", op="floor")
def coordinates_rounded_down(mended: bool) -> Program:
    """Positions on a grid: floor is flat wherever it has a derivative."""

    class Net(TwoParts):
        def link(self, h: Tensor) -> Tensor:
            if mended:
                return h
            return torch.floor(h * 8) / 8

    return program(Net(mended))


class Quantize(nn.Module):
    """Round to 16 levels, with the straight-through gradient if it was thought of."""

    def __init__(self, straight_through: bool) -> None:
        super().__init__()
        self.straight_through = straight_through

    def forward(self, x: Tensor) -> Tensor:
        levels = torch.round(x * 16) / 16
        return x + (levels - x).detach() if self.straight_through else levels


@fault("zero-gradient", "backbone.0", source="torch.round(", op="round")
def quantization_without_straight_through(mended: bool) -> Program:
    """Quantisation in the middle of the backbone."""
    module = TwoParts(mended)
    module.backbone = nn.Sequential(nn.Linear(64, 32), Quantize(mended), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
    return program(module)


@fault("zero-gradient", "backbone", source="torch.sign(", op="sign")
def binary_code(mended: bool) -> Program:
    """A hash of two values per bit: sign is flat."""

    class Net(TwoParts):
        def link(self, h: Tensor) -> Tensor:
            h = h - 0.2
            if mended:
                return torch.tanh(h)
            return torch.sign(h)

    return program(Net(mended))


class AttentionPooling(nn.Module):
    """A weighted mean over the rows of an image; the weights should sum to one over the rows."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.score = mlp(width, width, 1)
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.softmax(self.score(x), dim=self.dim)
        return (weights * x).sum(1)


@fault("zero-gradient", "backbone.2.score", source="torch.softmax(", op="softmax")
def softmax_over_the_wrong_dimension(mended: bool) -> Program:
    """Softmax over a dimension of size 1 is 1: the scores never learn."""
    module = TwoParts(mended)
    unflatten = nn.Unflatten(1, (8, 8))
    module.backbone = nn.Sequential(unflatten, nn.Linear(8, 32), AttentionPooling(32, 1 if mended else -1))
    return program(module)


class Bounded(Module):
    """Shares between 0 and 1, by cutting off."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.net = mlp(10, 16, 1)
        nn.init.constant_(self.net[-1].bias, 0.5 if mended else -4.0)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        share = self.net(batch[0]).clamp(0, 1)
        return F.mse_loss(share, batch[1].sigmoid())


@fault("zero-gradient", "net", source=".clamp(0, 1)", op="clamp")
def outputs_that_all_lie_outside_of_their_range(mended: bool) -> Program:
    """No parameter of the model has another gradient than 0, from the first step on."""
    return Program(Bounded(mended), batches(*diabetes()), trainer={"max_epochs": 3})


@fault("zero-gradient", "net")
def physics_by_the_second_derivative_of_relu(mended: bool) -> Program:
    """u'' = -sin(x) by a network that is straight almost everywhere: the residual trains nothing."""

    class Net(Module):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.net = mlp(1, 16, 16, 1, act=nn.Tanh if mended else nn.ReLU)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x = batch[0].requires_grad_()
            (slope,) = torch.autograd.grad(self.net(x).sum(), x, create_graph=True)
            (bend,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
            return (bend + x.sin()).square().mean()

    return Program(Net(mended), batches(6 * torch.rand(448, 1)), trainer={"max_epochs": 3})
