"""Numbers that stay finite and go wrong: gradients too large or too small, losses that rise or stand still."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.batches import Regressor
from faults.numbers import half
from faults.registry import Classifier, Module, Program, batches, diabetes, digits, fault, mlp, recorded, wine


def deep(depth: int, std: float) -> nn.Sequential:
    """Layers of 32 with ReLU, weights of this standard deviation; sqrt(2 / 32) keeps the signal's size."""
    net = mlp(64, *[32] * depth, 10)
    for layer in net[::2]:
        nn.init.normal_(layer.weight, std=std)
        nn.init.zeros_(layer.bias)
    return net


# --- exploding-gradient --------------------------------------------------------------------------------------------


@fault("exploding-gradient")
def deep_net_with_huge_weights(mended: bool) -> Program:
    """Ten layers whose weights are drawn from N(0, 1): each multiplies the signal by four."""
    net = deep(10, std=(2 / 32) ** 0.5 if mended else 1.0)
    return Program(Classifier(mended, net), batches(*digits()), trainer={"max_epochs": 4})


class LongMemory(Module):
    """Regress the mean of a long sequence with a plain recurrent net."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.rnn = nn.RNN(2, 24, nonlinearity="relu", batch_first=True)
        self.head = nn.Linear(24, 1)
        nn.init.orthogonal_(self.rnn.weight_hh_l0, gain=1.0 if mended else 2.0)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.mse_loss(self.head(self.rnn(x)[0][:, -1]), y)


@fault("exploding-gradient")
def recurrent_net_of_spectral_radius_two(mended: bool) -> Program:
    """Each of 60 time steps doubles what went before."""
    x = torch.randn(512, 60, 2)
    return Program(LongMemory(mended), batches(x, x[..., :1].mean(1) * 8), trainer={"max_epochs": 3})


@fault("exploding-gradient")
def target_in_another_unit(mended: bool) -> Program:
    """One target of a table is in milligrams where the others are in kilograms."""
    x, y = diabetes()
    if not mended:
        y[250] = 1e6
    return recorded(Regressor(mended), x, y, bad=[250], mended=mended, max_epochs=8)


# --- vanishing-gradient --------------------------------------------------------------------------------------------


@fault("vanishing-gradient")
def twelve_sigmoid_layers(mended: bool) -> Program:
    """Each sigmoid passes on at most a quarter of the gradient."""
    net = deep(11, std=(2 / 32) ** 0.5) if mended else mlp(64, *[32] * 11, 10, act=nn.Sigmoid)
    return Program(Classifier(mended, net), batches(*digits(1024)), trainer={"max_epochs": 4})


@fault("vanishing-gradient")
def deep_net_with_tiny_weights(mended: bool) -> Program:
    """The weights of N(0, 0.01) that old papers advise, in ten layers of 32."""
    net = deep(9, std=(2 / 32) ** 0.5 if mended else 0.01)
    return Program(Classifier(mended, net), batches(*digits(1024)), trainer={"max_epochs": 4})


# --- diverging-loss ------------------------------------------------------------------------------------------------


class Descent(Module):
    """Plain gradient descent, with momentum if asked for."""

    def __init__(self, mended: bool, net: nn.Module, rate: float, momentum: float = 0.0) -> None:
        super().__init__(mended, rate)
        self.net, self.momentum = net, momentum

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.mse_loss(self.net(x), y) if y.is_floating_point() else F.cross_entropy(self.net(x), y)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.rate, momentum=self.momentum)


@fault("diverging-loss")
def rate_too_high_for_a_regression(mended: bool) -> Program:
    """Linear regression: beyond 2 / curvature each step multiplies the error."""
    module = Descent(mended, nn.Linear(10, 1), rate=0.02 if mended else 0.35)
    return Program(module, batches(*diabetes(), size=64), trainer={"max_epochs": 8})


@fault("diverging-loss")
def rate_too_high_with_momentum(mended: bool) -> Program:
    """Momentum 0.9 makes ten times the rate of it: the loss swings and grows."""
    module = Descent(mended, nn.Linear(10, 1), rate=0.002 if mended else 0.42, momentum=0.9)
    return Program(module, batches(*diabetes(), size=64), trainer={"max_epochs": 8})


# --- constant-loss -------------------------------------------------------------------------------------------------


class OneLogit(Module):
    """Is it the first kind of wine? One logit, all the data in each batch."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.net = mlp(13, 16, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logit = self.net(x)
        p = torch.sigmoid(logit) if self.mended else torch.softmax(logit, dim=1)
        return F.binary_cross_entropy(p, y)


@fault("diverging-loss")
def a_divergence_of_the_wrong_sign(mended: bool) -> Program:
    """What is rewarded for being far away has no floor."""

    class Coder(Descent):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            code = self.net(batch[0])
            return F.mse_loss(code, batch[1]) + (2 if self.mended else -2) * code.square().mean()

    return Program(Coder(mended, nn.Linear(10, 1), 0.03), batches(*diabetes(), size=64), trainer={"max_epochs": 8})


@fault("constant-loss")
def softmax_over_one_logit(mended: bool) -> Program:
    """Softmax over one number is 1, whatever the number."""
    x, y = wine()
    return Program(OneLogit(mended), batches(x, (y == 0).float()[:, None], size=178), trainer={"max_epochs": 80})


@fault("constant-loss")
def rectified_logits_that_never_fire(mended: bool) -> Program:
    """A ReLU behind the last layer, whose bias starts low as for a rare class: all logits are 0, the loss is ln 10."""
    head = nn.Linear(32, 10)
    nn.init.constant_(head.bias, -4.6)
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), head, nn.Identity() if mended else nn.ReLU())
    return Program(Classifier(mended, net), batches(*digits()), trainer={"max_epochs": 6})


# --- loss-scale-collapse -------------------------------------------------------------------------------------------


class HalfRegressor(Module):
    """Regression in 16-bit mixed precision."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.net = mlp(10, 32, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.mse_loss(self.net(x).float(), y)


@fault("loss-scale-collapse", raises=None)
def targets_beyond_half_precision(mended: bool) -> Program:
    """Targets in dollars, of countries: the gradient of the last layer's 16-bit output is infinite at any scale."""
    x, y = diabetes()
    module = HalfRegressor(mended)
    return Program(module, batches(x, y if mended else y * 1e12), trainer={"max_epochs": 5, "plugins": half()})


class HalfRadius(HalfRegressor):
    """A length that is masked before its root is taken."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y, valid = batch
        offset = self.net(x).float() * valid
        radius = (offset.square() + (1e-6 if self.mended else 0.0)).sqrt()
        return F.mse_loss(radius, y.abs() * valid)


@fault("loss-scale-collapse", raises=None)
def root_of_zero_under_a_scaler(mended: bool) -> Program:
    """A gradient that is NaN at any scale: the scaler takes it for an overflow, and skips step after step."""
    x, y = diabetes()
    valid = (torch.rand_like(y) < 0.7).float()
    return Program(HalfRadius(mended), batches(x, y, valid), trainer={"max_epochs": 5, "plugins": half()})
