"""Positive targets and a softplus output: its range and that of the targets fit.

Source: https://stackoverflow.com/questions/65522548 (a false lead of this kind)
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


class Waiting(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 32), nn.PReLU(), nn.Linear(32, 1), nn.Softplus())

    def training_step(self, batch, batch_idx):
        return F.mse_loss(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_mse", F.mse_loss(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x = torch.randn(2000, 5)
    y = (0.5 * x[:, :1] + 0.3 * x[:, 1:2] * x[:, 2:3]).exp() * (1 + 0.1 * torch.rand(2000, 1))
    train, val = TensorDataset(x[:1700], y[:1700]), TensorDataset(x[1700:], y[1700:])
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Waiting(), DataLoader(train, 34, shuffle=True), DataLoader(val, 100))
