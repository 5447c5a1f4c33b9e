"""Programs whose data, network or first loss come close to a fault before the first step, and mean it."""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from healthy.parts import Batch, Program, digits, loader, mlp, pixels, program, table


class ByHand(LightningModule):
    """A network whose loss no function of torch computes."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        return -self(x).log_softmax(1)[torch.arange(len(y)), y].mean()

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=1e-3)


@program
def likelihood_of_a_large_batch_by_hand() -> Program:
    """Batch norm counts on its own averages in eval mode, layer norm on the sample alone."""
    net = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.GELU(), nn.LayerNorm(128), nn.Linear(128, 10))
    train, _ = digits(batch_size=256, flat=True, drop_last=True)
    return Program(ByHand(net), train, None, {"max_epochs": 12})


class Twins(ByHand):
    """Correlations between the columns of two views, which ``forward`` standardises over the batch (Barlow Twins)."""

    def forward(self, x: Tensor) -> Tensor:
        z = self.net(x)
        return (z - z.mean(0)) / (z.std(0) + 1e-4)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        one, other = (self(batch[0] + 0.1 * torch.randn_like(batch[0])) for _ in range(2))
        correlations = one.T @ other / len(one)
        off = correlations - torch.diag(correlations.diagonal())
        return (1 - correlations.diagonal()).square().sum() + 5e-3 * off.square().sum()


@program
def columns_are_correlated_over_the_batch() -> Program:
    train, _ = digits(batch_size=64, flat=True, drop_last=True)
    return Program(Twins(mlp(64, 64, 16)), train, None, {"max_epochs": 4})


class Risks(ByHand):
    """Cox's partial likelihood: each risk is weighed against those of all who are still at risk; ``forward`` is not."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, time = batch
        risk = self(x).squeeze(1)[time.argsort(descending=True)]
        return (risk.logcumsumexp(0) - risk).mean()


@program
def risks_are_compared_within_the_batch() -> Program:
    x, y = table("diabetes")
    return Program(Risks(mlp(10, 32, 1)), loader(x, y.float(), batch_size=32), None, {"max_epochs": 6})


class Alike(ByHand):
    """Differences of all pairs, (N, 1, D) with (1, N, D); the mean of the batch stands for the centre of all."""

    def forward(self, x: Tensor) -> Tensor:
        z = self.net(x)
        return F.normalize(z - z.mean(0), dim=1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        z = self(x)
        apart = (z[:, None] - z[None]).square().sum(-1)
        return torch.where(y[:, None] == y, apart, (1 - apart).clamp_min(0)).mean()


@program
def pairs_are_pulled_together_by_hand() -> Program:
    train, _ = digits(batch_size=48, flat=True, drop_last=True)
    return Program(Alike(mlp(64, 64, 8)), train, None, {"max_epochs": 4})


class Turns(ByHand):
    """Two tasks of two inputs, which take turns: each step calls both networks and learns one."""

    def __init__(self) -> None:
        super().__init__(mlp(64, 32, 10))
        self.other = mlp(64, 32, 2)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, outlines, y = batch
        digit, parity = self.net(x), self.other(outlines)
        return F.cross_entropy(digit, y) if batch_idx % 2 else F.cross_entropy(parity, y % 2)


@program
def two_inputs_that_take_turns() -> Program:
    x, y = pixels()
    x = x.flatten(1)
    return Program(Turns(), loader(x, (x - x.roll(1, 1)).abs(), y), None, {"max_epochs": 2})


class Gated(ByHand):
    """The second input comes in through a gate that starts at zero (Bachlechner et al., 2020)."""

    def __init__(self) -> None:
        super().__init__(mlp(64, 32, 10))
        self.other, self.gate = mlp(64, 32, 10), nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, outlines, y = batch
        return F.cross_entropy(self.net(x) + self.gate * self.other(outlines), y)


@program
def second_input_behind_a_gate_of_zero() -> Program:
    x, y = pixels()
    x = x.flatten(1)
    return Program(Gated(), loader(x, (x - x.roll(1, 1)).abs(), y), None, {"max_epochs": 2})


class Rows(ByHand):
    """Recurrent layers as papers start them: identity (Le et al., 2015), a forget bias of 1, a head of zeros."""

    def __init__(self, rnn: nn.RNNBase) -> None:
        super().__init__(rnn)
        self.head = nn.Linear(rnn.hidden_size, 10)
        nn.init.zeros_(self.head.weight)
        with torch.no_grad():
            for name, part in rnn.named_parameters():
                if "bias" in name:
                    part.zero_()
                    if isinstance(rnn, nn.LSTM):
                        part[rnn.hidden_size : 2 * rnn.hidden_size] = 1
                elif "hh" in name and isinstance(rnn, nn.RNN):
                    nn.init.eye_(part)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net(x.reshape(-1, 8, 8))[0][:, -1])


@program
def recurrent_identity_and_a_head_of_zeros() -> Program:
    return Program(
        Rows(nn.RNN(8, 32, nonlinearity="relu", batch_first=True)), digits(flat=True)[0], None, {"max_epochs": 2}
    )


@program
def forget_bias_of_one_and_a_head_of_zeros() -> Program:
    return Program(Rows(nn.LSTM(8, 32, batch_first=True)), digits(flat=True)[0], None, {"max_epochs": 2})
