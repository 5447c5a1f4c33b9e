"""A stream of samples (IterableDataset) with a shuffle buffer and no length; the run is limited by steps.

Source: https://docs.pytorch.org/docs/stable/data.html#torch.utils.data.IterableDataset
Added: 2026-11-28. Rules changed because of it: none.
"""

import random

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Stream(IterableDataset):
    def __init__(self, seed: int) -> None:
        self.seed = seed

    def events(self):
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            kind = int(torch.randint(3, (), generator=generator))
            signal = torch.randn(2, 32, generator=generator) * 0.5
            signal[0] += torch.sin(torch.arange(32) * (0.3 + 0.3 * kind))
            yield signal, kind

    def __iter__(self):
        buffer = []
        for event in self.events():
            buffer.append(event)
            if len(buffer) > 64:
                yield buffer.pop(random.randrange(len(buffer)))


class Events(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(2, 16, 5), nn.GroupNorm(4, 16), nn.ReLU(), nn.AdaptiveAvgPool1d(6), nn.Flatten(), nn.Linear(96, 3)
        )

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(
        max_steps=120,
        val_check_interval=60,
        limit_val_batches=4,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(Events(), DataLoader(Stream(seed), 32), DataLoader(Stream(seed + 1), 50))
