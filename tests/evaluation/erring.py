"""Modules that answer what their data say, so that every count is known beforehand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from monitors.breaking import QUIET
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_debugkit import ErrorAnalysis, read_journal

Held = dict[str, Any]


class Says(pl.LightningModule):
    """The scores are the input; training changes nothing that matters."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + 0 * self.offset

    def loss(self, batch: Any) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return self.loss(batch)

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return self.loss(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class YesOrNo(Says):
    def loss(self, batch: Any) -> Tensor:
        return F.binary_cross_entropy_with_logits(self(batch[0]), batch[1].float())


def digits() -> tuple[Tensor, Tensor]:
    """Real images, flat, from 0 to 1."""
    images, labels = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
    return images.float() / 16, labels


def random_answers(n: int, classes: int, seed: int = 0, skill: float = 1.5) -> tuple[Tensor, Tensor]:
    """Logits that are right more often than chance, with their targets."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, classes, (n,), generator=generator)
    logits = torch.randn(n, classes, generator=generator)
    logits[torch.arange(n), target] += skill
    return logits, target


def loader(*columns: Any, size: int = 16, **options: Any) -> DataLoader[Any]:
    data = columns[0] if len(columns) == 1 and isinstance(columns[0], Dataset) else TensorDataset(*columns)
    return DataLoader(data, batch_size=size, **options)


def run(
    folder: Path,
    data: Any,
    module: pl.LightningModule | None = None,
    stage: str = "validate",
    trainer: Held | None = None,
    **arguments: Any,
) -> Held:
    """Validate or test, and return what the analysis left."""
    callback = ErrorAnalysis(**arguments)
    made = pl.Trainer(default_root_dir=folder, callbacks=[callback], **{**QUIET, **(trainer or {})})
    module = Says() if module is None else module
    (made.validate if stage == "validate" else made.test)(module, data, verbose=False)
    return read(folder, stage)


def read(folder: Path, stage: str = "validate", name: str = "debugkit") -> Held:
    """What an analysis left, in a run in which the kit did not stumble."""
    assert not (troubles := read_journal(folder / name).of_kind("trouble")), troubles
    file = "errors-test.json" if stage == "test" else "errors.json"
    held: Held = json.loads((folder / name / file).read_text())
    return held


def table(held: Held, classes: int | None = None) -> Any:
    """The confusion matrix of an analysis."""
    classes = len(held["classes"]) if classes is None else classes
    matrix = torch.zeros(classes, classes, dtype=torch.long)
    for target, predicted, count in held["confusion"]:
        matrix[target, predicted] += count
    return matrix.numpy()
