"""Digits with 5 % of the labels wrong, augmentation by noise, weight decay.

Source: https://arxiv.org/abs/1911.00068 (label noise of this size is common)
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Noisy(Dataset):
    def __init__(self, x: torch.Tensor, y: torch.Tensor, augment: bool) -> None:
        self.x, self.y, self.augment = x, y, augment

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        x = self.x[i]
        return (x + 0.1 * torch.randn_like(x)) if self.augment else x, self.y[i]


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 96), nn.BatchNorm1d(96), nn.ReLU(), nn.Linear(96, 10))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        score = self.net(batch[0])
        self.log_dict(
            {"val_loss": F.cross_entropy(score, batch[1]), "val_acc": (score.argmax(1) == batch[1]).float().mean()}
        )

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-3, weight_decay=0.05)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    digits = load_digits()
    order = torch.randperm(1797)
    x, y = torch.tensor(digits.data / 8 - 1, dtype=torch.float32)[order], torch.tensor(digits.target)[order]
    wrong = torch.rand(1797) < 0.05
    y = torch.where(wrong, torch.randint(10, (1797,)), y)
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    train, val = Noisy(x[:1500], y[:1500], augment=True), Noisy(x[1500:], y[1500:], augment=False)
    trainer.fit(Net(), DataLoader(train, 30, shuffle=True), DataLoader(val, 100))
