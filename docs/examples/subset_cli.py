"""Tell some digits apart, chosen on the command line: ``python subset_cli.py fit -c class-subset.yaml``."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import LightningCLI
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from train_cli import Classifier


class Images(Dataset[tuple[Tensor, int]]):
    """The images of 8 by 8 pixels that come with scikit-learn; no download.

    Args:
        train: The first 1,500 of them, or else the others.
    """

    def __init__(self, train: bool = True) -> None:
        images, labels = load_digits(return_X_y=True)
        part = slice(None, 1500) if train else slice(1500, None)
        self.pixels = torch.as_tensor(images[part], dtype=torch.float32).view(-1, 1, 8, 8) / 16
        self.targets = labels[part].tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.pixels[index], self.targets[index]


class Data(pl.LightningDataModule):
    """Loaders of two datasets.

    Args:
        train: Dataset to learn from.
        val: Dataset to validate on.
        batch_size: Samples in a batch.
    """

    def __init__(self, train: Dataset, val: Dataset, batch_size: int = 64) -> None:  # type: ignore[type-arg]  # of any samples
        super().__init__()
        self.train = train
        self.val = val
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        return DataLoader(self.val, self.batch_size)


if __name__ == "__main__":
    LightningCLI(Classifier, Data, seed_everything_default=0)
