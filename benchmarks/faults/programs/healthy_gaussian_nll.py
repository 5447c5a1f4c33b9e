"""Heteroscedastic regression by GaussianNLLLoss, which may be negative.

Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.GaussianNLLLoss.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class MeanAndVariance(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU())
        self.mean, self.log_var = nn.Linear(48, 1), nn.Linear(48, 1)
        self.loss = nn.GaussianNLLLoss()

    def step(self, batch):
        h = self.body(batch[0])
        return self.loss(self.mean(h), batch[1], self.log_var(h).exp())

    def training_step(self, batch, batch_idx):
        return self.step(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_nll", self.step(batch))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x = torch.rand(2400, 3) * 2 - 1
    y = (3 * x[:, :1]).sin() + x[:, 1:2].abs() * 0.3 * torch.randn(2400, 1)
    train, val = TensorDataset(x[:2000], y[:2000]), TensorDataset(x[2000:], y[2000:])
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(MeanAndVariance(), DataLoader(train, 40, shuffle=True), DataLoader(val, 100))
