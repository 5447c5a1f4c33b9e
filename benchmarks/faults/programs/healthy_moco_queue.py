"""MoCo: a queue of old keys as negatives in a buffer that changes with each step, and a key encoder by moving average.

Source: https://arxiv.org/abs/1911.05722
Added: 2026-11-28. Rules changed because of it: none.
"""

import copy

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class MoCo(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 24))
        self.key = copy.deepcopy(self.query).requires_grad_(False)
        self.register_buffer("queue", F.normalize(torch.randn(256, 24), dim=1))

    def training_step(self, batch, batch_idx):
        (x,) = batch
        q = F.normalize(self.query(x + 0.1 * torch.randn_like(x)), dim=1)
        with torch.no_grad():
            for mine, theirs in zip(self.key.parameters(), self.query.parameters(), strict=True):
                mine.lerp_(theirs, 0.01)
            k = F.normalize(self.key(x + 0.1 * torch.randn_like(x)), dim=1)
        positive, negative = (q * k).sum(1, keepdim=True), q @ self.queue.T
        logits = torch.cat([positive, negative], dim=1) / 0.2
        self.queue = torch.cat([k, self.queue])[:256]
        return F.cross_entropy(logits, torch.zeros(len(x), dtype=torch.long, device=x.device))

    def configure_optimizers(self):
        return torch.optim.SGD(self.query.parameters(), lr=0.1, momentum=0.9)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x = torch.tensor(load_digits().data / 8 - 1, dtype=torch.float32)
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(MoCo(), DataLoader(TensorDataset(x), 32, shuffle=True))
