"""Modules as people write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from monitors.breaking import QUIET
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import BiasVarianceReport

IMAGES, LABELS = (torch.as_tensor(part) for part in load_digits(return_X_y=True))


IMAGES = IMAGES.float() / 16


class Base(pl.LightningModule):
    """A linear reader of digits; how the step tells what it thinks is up to the kinds below."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = (batch["pixels"], batch["label"]) if isinstance(batch, dict) else batch[:2]
        return F.cross_entropy(self.net(x), y)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class CallsItself(Base):
    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return F.cross_entropy(self(batch[0]), batch[1])


class ReturnsADict(Base):
    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        logits = self.net(batch[0])
        return {"loss": F.cross_entropy(logits, batch[1]), "logits": logits, "target": batch[1]}


class KnowsOnlyItsLoss(Base):
    """The net is called by name, nothing is returned: only the loss function sees the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = nn.CrossEntropyLoss()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(self.net(batch[0]), batch[1]))


def pairs(n: int = 200) -> DataLoader[Any]:
    return DataLoader(TensorDataset(IMAGES[:n], LABELS[:n]), batch_size=64)


def fit(module: pl.LightningModule, folder: Path, loader: DataLoader[Any], **arguments: Any) -> BiasVarianceReport:
    callback = BiasVarianceReport(**arguments)
    trainer = pl.Trainer(default_root_dir=folder, callbacks=[callback], max_epochs=1, **QUIET)
    trainer.fit(module, loader, loader)
    return callback


class TwoHeads(Base):
    """A second question is asked of the same images first."""

    def __init__(self) -> None:
        super().__init__()
        self.aux = nn.Linear(64, 3)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        return 0.1 * F.cross_entropy(self.aux(x), y % 3) + F.cross_entropy(self.net(x), y)
