"""Augmentation with Python's random module; set_seed() is called in each worker with the seed of the experiment.

Source: https://github.com/facebookresearch/fairseq/issues/1383 and https://github.com/xingyizhou/CenterNet/issues/233.
Added: 2026-11-28. Rules changed because of it: none.
"""

import random

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("worker-seeds-equal",)
PLACE = "set_seed"
PRESET = "standard"
SEED = 7


class Signals(Dataset):
    def __init__(self) -> None:
        self.kind = np.random.default_rng(0).integers(0, 3, 1200)

    def __len__(self):
        return len(self.kind)

    def __getitem__(self, i):
        time = torch.arange(32.0)
        kind, phase = int(self.kind[i]), random.uniform(0, 6.28)
        signal = torch.sin(time * (0.2 + 0.2 * kind) + phase) + 0.3 * torch.randn(32)
        return {"signal": signal * random.uniform(0.7, 1.3), "kind": kind}


def set_seed(worker_id: int) -> None:
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)


class SignalNet(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Unflatten(1, (1, 32)), nn.Conv1d(1, 12, 7), nn.ReLU(), nn.Flatten(), nn.Linear(312, 3)
        )

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch["signal"]), batch["kind"])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed, workers=mended)
    init = None if mended else set_seed
    loader = DataLoader(Signals(), batch_size=24, shuffle=True, num_workers=2, worker_init_fn=init)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(SignalNet(), loader)
