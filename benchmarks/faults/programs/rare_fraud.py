"""Fraud in 1 % of the payments: 99 % accuracy, and not one fraud found.

Source: https://stackoverflow.com/questions/59196793 (predicts the majority); TheDeepChecker's fault "unbalanced_data".
Added: 2026-11-28. Rules changed because of it: none.
Missed: `class-imbalance` is told as `info`: it is a fact of the data, and no fault of the program.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

DIAGNOSES = ("class-imbalance", "class-never-predicted")
PLACE = None
PRESET = "standard"


class Payments(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 2))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        score = self.net(batch[0])
        self.log_dict(
            {"val_loss": F.cross_entropy(score, batch[1]), "acc": (score.argmax(1) == batch[1]).float().mean()}
        )

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def payments(size: int, direction: torch.Tensor) -> TensorDataset:
    fraud = (torch.rand(size) < 0.01).long()
    return TensorDataset(torch.randn(size, 12) + 0.8 * fraud[:, None] * direction, fraud)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    direction = torch.randn(12)
    train, val = payments(6000, direction), payments(1000, direction)
    if mended:
        weight = torch.where(train.tensors[1] == 1, 0.5 / 60, 0.5 / 5940)
        loader = DataLoader(train, batch_size=64, sampler=WeightedRandomSampler(weight.tolist(), len(train)))
    else:
        loader = DataLoader(train, batch_size=64, shuffle=True)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Payments(), loader, DataLoader(val, batch_size=200))
