"""A training whose samples are followed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from evaluation.erring import digits, loader
from monitors.breaking import QUIET
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset


class Delicate(pl.LightningModule):
    """Dropout, batch norm, a net that is called by name, and a memory of what it was told in training."""

    def __init__(self) -> None:
        super().__init__()
        pl.seed_everything(3, verbose=False)
        self.net = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 10))
        self.told: list[tuple[Tensor, Tensor, Tensor]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        logits = self.net(batch[0])
        self.told.append((batch[2], logits.detach(), batch[1]))
        return F.cross_entropy(logits, batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    test_step = validation_step

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def noisy_digits(n: int) -> Dataset[Any]:
    images, labels = digits()

    class Noisy(Dataset[Any]):
        def __init__(self) -> None:
            self.classes = [f"digit {number}" for number in range(10)]

        def __len__(self) -> int:
            return n

        def __getitem__(self, index: int) -> Any:
            return images[index] + 0.1 * torch.randn(64) + 0.1 * float(np.random.rand()), labels[index], index

    return Noisy()


def fit(folder: Path, *callbacks: pl.Callback, epochs: int = 3, n: int = 150, **options: Any) -> Delicate:
    module = Delicate()
    ckpt_path = options.pop("ckpt_path", None)
    trainer = pl.Trainer(default_root_dir=folder, max_epochs=epochs, callbacks=list(callbacks), **{**QUIET, **options})
    data = noisy_digits(n)
    trainer.fit(module, loader(data, shuffle=True), loader(Subset(data, range(60))), ckpt_path=ckpt_path)
    return module
