"""A Siamese network with batch norm and a contrastive loss on pairs.

Source: https://doi.org/10.1109/CVPR.2006.100 (Hadsell et al.)
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


class Pairs(Dataset):
    def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        same = bool(torch.rand(()) < 0.5)
        candidates = torch.nonzero((self.y == self.y[i]) == same).flatten()
        j = candidates[torch.randint(len(candidates), ())]
        return self.x[i], self.x[j], float(same)


class Siamese(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(144, 16)
        )

    def step(self, batch):
        a, b, same = batch
        distance = F.pairwise_distance(self.net(a), self.net(b))
        return (same * distance**2 + (1 - same) * (2 - distance).clamp(min=0) ** 2).mean()

    def training_step(self, batch, batch_idx):
        return self.step(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.step(batch))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    digits = load_digits()
    order = torch.randperm(1797)
    x = torch.tensor(digits.images, dtype=torch.float32)[order, None] / 8 - 1
    y = torch.tensor(digits.target)[order]
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(
        Siamese(), DataLoader(Pairs(x[:1500], y[:1500]), 32, shuffle=True), DataLoader(Pairs(x[1500:], y[1500:]), 100)
    )
