"""The loss is good, the logged accuracy is 10 % on ten classes, always.

Source: https://github.com/Zasder3/train-CLIP/issues/6 (an accuracy whose argmax does not fit the labels).
Added: 2026-11-28. Rules changed because of it: shape-broadcast (its words).
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("shape-broadcast",)
PLACE = "broadcast_in_metric.py:37"
PRESET = "standard"


class Patches(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.patch = nn.Conv2d(1, 32, 4, stride=4)
        self.mix = nn.Sequential(nn.Flatten(), nn.LayerNorm(128), nn.Linear(128, 64), nn.GELU(), nn.Linear(64, 10))

    def forward(self, image):
        return self.mix(self.patch(image))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        image, digit = batch
        output = self(image)
        self.log("val_loss", F.cross_entropy(output, digit))
        prediction = output.argmax(dim=1, keepdim=not self.mended)
        correct = prediction == digit
        self.log("val_acc", correct.float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    digits = load_digits()
    order = torch.randperm(1797)
    images = (torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16)[order]
    labels = torch.tensor(digits.target)[order]
    train = DataLoader(TensorDataset(images[:1400], labels[:1400]), 32, shuffle=True)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Patches(mended), train, DataLoader(TensorDataset(images[1400:], labels[1400:]), 32))
