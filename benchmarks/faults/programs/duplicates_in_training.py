"""Two exports of the same sensor log were put together: an epoch takes twice as long and tells nothing new.

Source: https://github.com/tqwei05/PlantSeg/issues/11 (duplicate groups within the training split) and
https://github.com/zalandoresearch/fashion-mnist/issues/44.
Added: 2026-11-28. Rules changed because of it: duplicate-samples (tables).
Missed: told as `info`: repeating samples in training is a common means against rare classes.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset

DIAGNOSES = ("duplicate-samples",)
PLACE = None
PRESET = "standard"


class Gauge(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(9, 40), nn.GELU(), nn.Linear(40, 1))

    def training_step(self, batch, batch_idx):
        reading, pressure = batch
        return F.mse_loss(self.net(reading), pressure)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    reading = torch.randn(1200, 9)
    pressure = reading[:, :1] + (reading[:, 1:2] * reading[:, 2:3]).tanh() + 0.1 * torch.randn(1200, 1)
    january = TensorDataset(reading[:800], pressure[:800])
    winter = TensorDataset(reading if not mended else reading[800:], pressure if not mended else pressure[800:])
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Gauge(), DataLoader(ConcatDataset([january, winter]), batch_size=40, shuffle=True))
