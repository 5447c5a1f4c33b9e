"""Quantile forecasts with the pinball loss: three outputs for one target, (B, 3) against (B, 1) on purpose.

Source: https://pytorch-forecasting.readthedocs.io/en/stable/api/pytorch_forecasting.metrics.quantile.QuantileLoss.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


QUANTILES = (0.1, 0.5, 0.9)


class Windows(Dataset):
    def __init__(self, series: torch.Tensor) -> None:
        self.series = series

    def __len__(self):
        return len(self.series) - 20

    def __getitem__(self, i):
        return self.series[i : i + 20], self.series[i + 20 : i + 21]


class Quantiles(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(20, 48), nn.ReLU(), nn.Linear(48, len(QUANTILES)))
        self.register_buffer("q", torch.tensor(QUANTILES))

    def step(self, batch):
        window, y = batch
        error = y - self.net(window)
        return torch.maximum(self.q * error, (self.q - 1) * error).mean()

    def training_step(self, batch, batch_idx):
        return self.step(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_pinball", self.step(batch))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    time = torch.arange(2400.0)
    series = torch.sin(time / 7) + 0.3 * torch.randn(2400) * (1.2 + torch.cos(time / 30))
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    train, val = DataLoader(Windows(series[:2000]), 32, shuffle=True), DataLoader(Windows(series[2000:]), 100)
    trainer.fit(Quantiles(), train, val)
