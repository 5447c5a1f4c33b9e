"""Validation F1 rises by less and less though the loss halves: the metric still counts the first epochs.

Source: https://github.com/JetBrains-Research/code2seq/pull/112 and https://github.com/Genentech/gReLU/pull/8 (metrics
are not reset after an epoch).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split
from torchmetrics.classification import MulticlassAccuracy

DIAGNOSES = ("metric-disagrees",)
PLACE = "val/acc"
PRESET = "thorough"


class Reader(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 10))
        self.accuracy = MulticlassAccuracy(num_classes=10, average="micro")

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch["image"]), batch["digit"])

    def validation_step(self, batch, batch_idx):
        score = self.net(batch["image"])
        self.accuracy.update(score, batch["digit"])
        self.log("val/loss", F.cross_entropy(score, batch["digit"]))

    def on_validation_epoch_end(self):
        self.log("val/acc", self.accuracy.compute())
        if self.mended:
            self.accuracy.reset()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-4)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.images, dtype=torch.float32) / 16, torch.tensor(digits.target))
    train, val = random_split(data, [1300, 497])

    def collate(samples):
        image, digit = zip(*samples, strict=True)
        return {"image": torch.stack(image), "digit": torch.stack(digit)}

    trainer = Trainer(max_epochs=6, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(
        Reader(mended),
        DataLoader(train, 26, shuffle=True, collate_fn=collate),
        DataLoader(val, 100, collate_fn=collate),
    )
