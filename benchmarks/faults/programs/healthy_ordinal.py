"""Ordinal regression: one score, four cut points, binary cross-entropy of "more than k".

Source: https://arxiv.org/abs/1901.07884 (CORAL)
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


class Coral(LightningModule):
    def __init__(self, grades: int = 5) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(7, 32), nn.ReLU(), nn.Linear(32, 1, bias=False))
        self.cuts = nn.Parameter(torch.linspace(1.0, -1.0, grades - 1))

    def step(self, batch):
        x, grade = batch
        logits = self.score(x) + self.cuts
        more = (grade[:, None] > torch.arange(len(self.cuts), device=x.device)).float()
        return F.binary_cross_entropy_with_logits(logits, more)

    def training_step(self, batch, batch_idx):
        return self.step(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.step(batch))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x = torch.randn(2400, 7)
    hidden = x[:, 0] + x[:, 1].relu() + 0.3 * torch.randn(2400)
    grade = torch.bucketize(hidden, torch.tensor([-0.6, 0.2, 0.8, 1.5]))
    train, val = TensorDataset(x[:2000], grade[:2000]), TensorDataset(x[2000:], grade[2000:])
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Coral(), DataLoader(train, 40, shuffle=True), DataLoader(val, 100))
