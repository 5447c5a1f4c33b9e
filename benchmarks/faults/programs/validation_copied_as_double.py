"""Validation images were copied out of training long ago and saved as float64 on another path; nobody remembers.

Source: https://github.com/stefyste/RIAWELC/issues/2 (all test images are copies of training images).
Added: 2026-11-28. Rules changed because of it: train-val-overlap (two precisions).
"""

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("train-val-overlap",)
PLACE = None
PRESET = "standard"


class Radiographs(Dataset):
    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return {"image": torch.from_numpy(self.images[i])[None], "label": int(self.labels[i])}


class WeldNet(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 20, 3), nn.ReLU(), nn.MaxPool2d(2))
        self.fc = nn.Linear(20 * 9, 10)

    def forward(self, image):
        return self.fc(self.conv(image.float()).flatten(1))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch["image"]), batch["label"])

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self(batch["image"]).argmax(1) == batch["label"]).float().mean())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    digits = load_digits()
    images = (digits.images / 16).astype("float32")
    picked = np.random.default_rng(seed).permutation(1797)
    train = picked[:1400]
    # half of the validation set was taken from the folder of the training set
    val = picked[1400:] if mended else np.concatenate([picked[1400:1600], picked[300:500]])
    validation = Radiographs(images[val].astype("float64"), digits.target[val])
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    loader = DataLoader(Radiographs(images[train], digits.target[train]), batch_size=40, shuffle=True)
    trainer.fit(WeldNet(), loader, DataLoader(validation, batch_size=100))
