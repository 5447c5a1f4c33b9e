"""The data set divides by 255, and so does the transform: training works, but much worse than the paper says.

Source: https://github.com/4uiiurz1/pytorch-nested-unet/issues/62 and https://github.com/pkmital/pycadl/pull/5.
Added: 2026-11-28. Rules changed because of it: input-not-normalized (nearly constant inputs), affine-network.
"""

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("input-not-normalized",)
PLACE = None
PRESET = "standard"


def normalize(image: np.ndarray, max_pixel_value: float = 255.0) -> torch.Tensor:
    """As albumentations does it: mean and standard deviation in units of the largest pixel value."""
    mean, std = 0.3 * max_pixel_value, 0.35 * max_pixel_value
    return torch.from_numpy(((image - mean) / std).astype(np.float32))


class Scans(Dataset):
    def __init__(self, mended: bool) -> None:
        digits = load_digits()
        self.image = np.round(digits.images / 16 * 255).astype(np.uint8)
        self.digit, self.mended = digits.target, mended

    def __len__(self):
        return len(self.digit)

    def __getitem__(self, i):
        image = self.image[i].astype(np.float32)
        if not self.mended:
            image = image / 255
        return normalize(image)[None], int(self.digit[i])


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2), nn.ReLU())
        self.fc = nn.Linear(16 * 9, 10)

    def training_step(self, batch, batch_idx):
        image, digit = batch
        return F.cross_entropy(self.fc(self.conv(image).flatten(1)), digit)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Net(), DataLoader(Scans(mended), batch_size=64, shuffle=True))
