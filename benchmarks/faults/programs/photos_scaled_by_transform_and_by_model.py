"""Patches of two photographs, as tensors of 0 to 1; the model divides by 255 once more.

Source: https://github.com/facebookresearch/InterHand2.6M/issues/110 (divided by 255 after ``ToTensor``, which did so).
Added: 2026-11-30. Rules changed because of it: none.
"""

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_sample_images
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("input-not-normalized",)
PLACE = None
PRESET = "standard"
AGAIN = "divided_by_255_twice"


def to_tensor(picture):
    """What the transform of a well-known library does with bytes: channels first, 0 to 1."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))).float().div(255)


class Patches(Dataset):
    def __init__(self, seed, mended):
        self.photos = load_sample_images().images
        rng = np.random.default_rng(seed)
        self.corners, self.mended = rng.integers(0, 400, (1200, 2)), mended

    def __len__(self):
        return len(self.corners)

    def __getitem__(self, i):
        row, column = self.corners[i]
        image = to_tensor(self.photos[i % 2][row : row + 16, column : column + 16])
        if not self.mended:
            image = image / 255.0
        return image, i % 2


class WhichPhoto(LightningModule):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 12, 3, stride=2), nn.ELU(), nn.Conv2d(12, 24, 3, stride=2), nn.ELU(), nn.Flatten()
        )
        self.classifier = nn.Linear(24 * 9, 2)

    def forward(self, image):
        return self.classifier(self.features(image))

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.02, momentum=0.9)


def main(mended, seed):
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(WhichPhoto(), DataLoader(Patches(seed, mended), batch_size=40, shuffle=True))
