"""Fits that save, small enough to look at every file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import NestedCheckpoint
from lightning_debugkit.checkpointing.records import read_records
from lightning_debugkit.checkpointing.verification import damage


class Scored(pl.LightningModule):
    """Learns a line; its validations log the scores it is given, one after the other.

    Args:
        scores: Of ``val_loss``; ``None`` logs nothing.
    """

    def __init__(self, scores: Sequence[float | None] = ()) -> None:
        super().__init__()
        self.net = nn.Linear(4, 1)
        self.scores = list(scores)
        self.count = 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.net(batch[0]).square().mean()
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0 and not self.trainer.sanity_checking:
            score = self.scores[self.count] if self.count < len(self.scores) else 1.0 / (1 + self.count)
            self.count += 1
            if score is not None:
                self.log("val_loss", torch.tensor(score))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def loader(batches: int = 5) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.randn(2 * batches, 4)), batch_size=2)


def train(
    folder: Path, *callbacks: pl.Callback, module: pl.LightningModule | None = None, **options: Any
) -> pl.Trainer:
    """Fit five batches an epoch, three epochs, with a validation each."""
    ckpt_path = options.pop("ckpt_path", None)
    batches = options.pop("batches", 5)
    validated = options.pop("validated", True)
    usual: dict[str, Any] = {
        "max_epochs": 3,
        "logger": False,
        "accelerator": "cpu",
        "devices": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = pl.Trainer(default_root_dir=folder, callbacks=list(callbacks), **{**usual, **options})
    torch.manual_seed(0)
    module = Scored() if module is None else module
    trainer.fit(module, loader(batches), loader(1) if validated else None, ckpt_path=ckpt_path)
    return trainer


def steps(folder: Path) -> list[int]:
    """The steps of the files in a folder, each of which must be whole and load with ``weights_only=True``."""
    records = read_records(folder)
    for record in records:
        assert damage(folder / record.name, record) == ""
        assert torch.load(folder / record.name, weights_only=True)["global_step"] == record.step
    names = {path.name for path in folder.glob("step-*.ckpt")}
    assert names == {record.name for record in records}, "no file without a record"
    return [record.step for record in records]


def step_of(path: str) -> int:
    return int(Path(path).name.split("-")[1])


def best_k(callback: NestedCheckpoint) -> dict[int, float]:
    assert all(Path(path).exists() for path in callback.best_k_models)
    return {step_of(path): round(float(score), 4) for path, score in callback.best_k_models.items()}
