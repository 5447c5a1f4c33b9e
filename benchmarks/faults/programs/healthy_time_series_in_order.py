"""A forecaster whose loader keeps the order of time, as its author wants it; the level drifts into validation.

Source: https://github.com/Nixtla/neuralforecast (time series are read in order)
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Load(Dataset):
    """Hourly load with a trend: window and the next six hours, scaled by the window's own mean."""

    def __init__(self, series: torch.Tensor) -> None:
        self.series = series

    def __len__(self):
        return len(self.series) - 54

    def __getitem__(self, i):
        past, future = self.series[i : i + 48], self.series[i + 48 : i + 54]
        return {"past": past - past.mean(), "future": future - past.mean()}


class NLinear(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(48, 64), nn.ReLU(), nn.Linear(64, 6))

    def training_step(self, batch, batch_idx):
        return F.l1_loss(self.net(batch["past"]), batch["future"])

    def validation_step(self, batch, batch_idx):
        self.log("val_mae", F.l1_loss(self.net(batch["past"]), batch["future"]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    hour = torch.arange(3000.0)
    series = torch.sin(hour * 6.28 / 24) + 0.4 * torch.sin(hour * 6.28 / 168) + hour / 2000 + 0.1 * torch.randn(3000)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(NLinear(), DataLoader(Load(series[:2500]), 32), DataLoader(Load(series[2500:]), 100))
