"""Models whose errors are known beforehand: what they will answer lies in the batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from monitors.breaking import QUIET
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import BiasVarianceReport


class Rigged(pl.LightningModule):
    """Answers ``x``, the class that its batch says; a parameter is there to be trained and matters nothing."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.classes = classes
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return 5 * F.one_hot(x, self.classes).float() + 0 * self.scale

    def step(self, batch: Any) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1]) + 0.1 * self.scale.square()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.step(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.step(batch))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", self.step(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def answers(n: int, wrong: int, classes: int = 4, size: int = 64, shuffle: bool = False) -> DataLoader[Any]:
    """``n`` samples of which ``wrong`` will be answered wrongly, spread over the batches and classes."""
    target = torch.arange(n) % classes
    order = torch.randperm(n, generator=torch.Generator().manual_seed(n + wrong))
    said = target.clone()
    said[order[:wrong]] = (target[order[:wrong]] + 1) % classes
    return DataLoader(TensorDataset(said, target), batch_size=size, shuffle=shuffle)


def report(
    folder: Path,
    train: Any,
    val: Any = None,
    test: Any = None,
    module: pl.LightningModule | None = None,
    callback: BiasVarianceReport | None = None,
    trainer: dict[str, Any] | None = None,
    **arguments: Any,
) -> dict[str, Any]:
    """Fit and test, and return ``bias_variance.json``."""
    callback = BiasVarianceReport(**arguments) if callback is None else callback
    pl.seed_everything(5, verbose=False)
    module = Rigged() if module is None else module
    options = {**QUIET, "max_epochs": 1, **(trainer or {})}
    fitter = pl.Trainer(default_root_dir=folder, callbacks=[callback], **options)
    fitter.fit(module, train, val)
    if test is not None:
        fitter.test(module, test, verbose=False)
    return read(folder)


def read(folder: Path) -> dict[str, Any]:
    """Return the file that a run left."""
    found: dict[str, Any] = json.loads((folder / "debugkit" / "bias_variance.json").read_text())
    return found
