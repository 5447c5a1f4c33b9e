"""Images were divided by 255 as integers: every picture is black, and the model learns the class frequencies.

Source: https://github.com/hao-ai-lab/FastVideo/pull/1055 (a second normalisation makes the image all black).
Added: 2026-11-28. Rules changed because of it: unused-input (constant inputs are another's).
"""

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("constant-input",)
PLACE = None
PRESET = "standard"


class Pictures(Dataset):
    def __init__(self, images: np.ndarray, labels: np.ndarray, mended: bool) -> None:
        self.images, self.labels, self.mended = images, labels, mended

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = self.images[i]  # uint8, as a decoder gives it
        image = image / 255 if self.mended else (image // 255)
        return {"pixel_values": image.astype(np.float32)[None], "label": int(self.labels[i])}


class SmallCNN(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3)
        self.fc = nn.Linear(16 * 9, 10)

    def training_step(self, batch, batch_idx):
        h = F.max_pool2d(F.relu(self.conv(batch["pixel_values"])), 2)
        return F.cross_entropy(self.fc(h.flatten(1)), batch["label"])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    digits = load_digits()
    data = Pictures((digits.images * 15).astype(np.uint8), digits.target, mended)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(SmallCNN(), DataLoader(data, batch_size=32, shuffle=True))
