"""Weights are drawn anew in each pass, in evaluation, too, as a Bayesian network has it; KL is weighed by 1/batches.

Source: https://arxiv.org/abs/1505.05424
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class BayesLinear(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)
        self.rho = nn.Parameter(torch.full((outputs, inputs), -4.0))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        std = F.softplus(self.rho)
        return F.linear(x, self.mean + std * torch.randn_like(std), self.bias)

    def kl(self):
        std = F.softplus(self.rho)
        return (-std.log() + 0.5 * (std**2 + self.mean**2) - 0.5).sum()


class Bayes(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = BayesLinear(3, 32), BayesLinear(32, 1)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))

    def training_step(self, batch, batch_idx):
        nll = 0.5 * ((self(batch[0]) - batch[1]) ** 2).mean() / 0.04
        return nll + (self.a.kl() + self.b.kl()) / 2000

    def validation_step(self, batch, batch_idx):
        samples = torch.stack([self(batch[0]) for _ in range(8)])
        self.log("val_mse", F.mse_loss(samples.mean(0), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x = torch.randn(2300, 3)
    y = (x[:, :1] + x[:, 1:2] * 0.5).sin() + 0.2 * torch.randn(2300, 1)
    train, val = TensorDataset(x[:2000], y[:2000]), TensorDataset(x[2000:], y[2000:])
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Bayes(), DataLoader(train, 40, shuffle=True), DataLoader(val, 100))
