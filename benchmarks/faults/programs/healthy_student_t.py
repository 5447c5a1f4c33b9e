"""Forecasts as Student-t distributions: the loss is a negative log-density and goes below 0.

Source: https://ts.gluon.ai/stable/api/gluonts/gluonts.torch.distributions.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.distributions import StudentT
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class DeepAR(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(1, 24, batch_first=True)
        self.parameters_of = nn.Linear(24, 3)

    def step(self, series):
        h, _ = self.rnn(series[:, :-1, None])
        df, loc, scale = self.parameters_of(h).unbind(-1)
        distribution = StudentT(2 + F.softplus(df), loc, F.softplus(scale) + 1e-3)
        return -distribution.log_prob(series[:, 1:]).mean()

    def training_step(self, batch, batch_idx):
        loss = self.step(batch[0])
        self.log("nll", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_nll", self.step(batch[0]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    phase = torch.rand(1300, 1) * 6.28
    series = torch.sin(phase + torch.arange(24) / 3) + 0.05 * torch.randn(1300, 24)
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    train, val = TensorDataset(series[:1100]), TensorDataset(series[1100:])
    trainer.fit(DeepAR(), DataLoader(train, 25, shuffle=True), DataLoader(val, 100))
