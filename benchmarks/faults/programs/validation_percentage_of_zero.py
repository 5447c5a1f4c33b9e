"""Training goes well, ``val_mape`` is inf in every epoch, and early stopping on it never works.

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/9794 (a metric that is not finite in validation).
Added: 2026-11-28. Rules changed because of it: nonfinite-validation (infinite metrics).
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("nonfinite-validation",)
PLACE = "demand"
PRESET = "standard"


class Demand(LightningModule):
    """A week of hourly demand from calendar features."""

    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.net = nn.Sequential(nn.Linear(5, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))

    def forward(self, x):
        return self.net(x).squeeze(-1)

    def training_step(self, batch, batch_idx):
        x, demand = batch
        loss = (self(x) - demand).abs().mean()
        self.log("train_mae", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, demand = batch
        size = demand.abs().clamp_min(0.1) if self.mended else demand
        mape = ((self(x) - demand) / size).abs().mean()
        self.log("val_mape", mape, prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    hours = torch.arange(2400) / 24
    x = torch.stack([torch.sin(k * hours * 6.283) for k in (1, 2)] + [torch.cos(k * hours * 6.283) for k in (1, 2)])
    x = torch.cat([x, torch.sin(hours * 6.283 / 7)[None]]).T
    demand = (2 + x[:, 0] + 0.5 * x[:, 3] + 0.3 * x[:, 4] + 0.1 * torch.randn(2400)).clamp_min(0.05)
    demand[2160:2166] = 0  # six hours without power, in the validation weeks
    order = torch.randperm(2100)
    train = DataLoader(TensorDataset(x[order], demand[order]), batch_size=60, shuffle=True)
    val = DataLoader(TensorDataset(x[2100:], demand[2100:]), batch_size=60)
    trainer = Trainer(max_epochs=4, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Demand(mended), train, val)
