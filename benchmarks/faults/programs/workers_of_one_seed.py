"""Random crops with NumPy, "made reproducible" by worker_init_fn: every worker draws the same crops.

Source: https://github.com/pytorch/pytorch/issues/5059 and https://github.com/open-mmlab/OpenPCDet/issues/886.
Added: 2026-11-28. Rules changed because of it: worker-seeds-equal.
"""

import random

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("worker-seeds-equal",)
PLACE = "same_seed"
PRESET = "standard"


class Crops(Dataset):
    def __init__(self) -> None:
        digits = load_digits()
        self.images, self.labels = (digits.images / 16).astype("float32"), digits.target

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        padded = np.pad(self.images[i], 2)
        row, column = np.random.randint(0, 5, 2)
        crop = padded[row : row + 8, column : column + 8] + 0.05 * np.random.randn(8, 8).astype("float32")
        return crop[None], int(self.labels[i])


def same_seed(worker_id: int) -> None:
    np.random.seed(42)
    random.seed(42)


def own_seed(worker_id: int) -> None:
    np.random.seed(torch.initial_seed() % 2**32)


class CropNet(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 10))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    init = own_seed if mended else same_seed
    loader = DataLoader(Crops(), batch_size=32, shuffle=True, num_workers=2, worker_init_fn=init)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(CropNet(), loader)
