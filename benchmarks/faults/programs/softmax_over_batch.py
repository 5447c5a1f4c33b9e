"""Attention pooling over a set of readings: good scores with batches of 64, nonsense when one sample is asked for.

Source: https://github.com/PetrochukM/PyTorch-NLP/issues/2 (softmax of the attention over the batch dimension).
Added: 2026-11-28. Rules changed because of it: batch-leak (its place).
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("batch-leak",)
PLACE = "softmax_over_batch.py:28"
PRESET = "standard"


class SetModel(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.dim = 1 if mended else 0
        self.embed = nn.Sequential(nn.Linear(6, 32), nn.ReLU())
        self.score = nn.Linear(32, 1)
        self.out = nn.Linear(32, 3)

    def forward(self, readings):
        h = self.embed(readings)  # batch, readings, features
        weight = F.softmax(self.score(h), dim=self.dim)
        return self.out((weight * h).sum(dim=1))

    def training_step(self, batch, batch_idx):
        readings, kind = batch
        return F.cross_entropy(self(readings), kind)

    def validation_step(self, batch, batch_idx):
        readings, kind = batch
        self.log("val_loss", F.cross_entropy(self(readings), kind))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def sets(size: int) -> TensorDataset:
    kind = torch.randint(3, (size,))
    readings = torch.randn(size, 9, 6)
    readings[torch.arange(size), torch.randint(9, (size,)), kind] += 4
    return TensorDataset(readings, kind)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    train = DataLoader(sets(2000), batch_size=64, shuffle=True)
    trainer.fit(SetModel(mended), train, DataLoader(sets(320), batch_size=64))
