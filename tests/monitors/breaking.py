"""Programs that break on purpose, and one way to fit them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import Finding, Severity, read_journal
from lightning_debugkit.core.journal import Events


class Net(pl.LightningModule):
    """Dropout, batch norm, and a loss that breaks in the steps named.

    Args:
        breaks: ``harmless`` is an infinite loss with the usual gradients, ``nan`` breaks the gradients too,
            ``backward`` breaks the gradients of a finite loss.
        at: Steps of the run in which it does.
    """

    def __init__(self, breaks: str = "nan", at: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.breaks, self.at = breaks, at
        self.net = nn.Sequential(
            nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(16, 1)
        )

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = (self.net(x) - y).square().mean()
        if self.global_step in self.at:
            loss = self.broken(loss, x)
        self.log("train_loss", loss, on_step=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", (self.net(batch[0]) - batch[1]).square().mean())

    test_step = validation_step

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.net(batch[0])

    def broken(self, loss: Tensor, x: Tensor) -> Tensor:
        if self.breaks == "harmless":
            return loss + torch.log(x.mean() * 0).abs()
        if self.breaks == "backward":
            return loss + torch.sqrt(self.net[0].weight.square().sum() * 0)
        return loss * torch.log(x[0, 0] * 0 - 1)

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
    "devices": 1,
}


def data(n: int = 64, size: int = 8) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(n, 6, generator=generator)
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=size, shuffle=True)


def make(breaks: str = "nan", at: tuple[int, ...] = ()) -> Net:
    """The same initial weights each time."""
    pl.seed_everything(11, verbose=False)
    return Net(breaks, at)


def fit(module: pl.LightningModule, folder: Path, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    """Fit from the same seed as any other fit."""
    pl.seed_everything(5, verbose=False)
    ckpt_path = options.pop("ckpt_path", None)
    loader, validation = options.pop("train", None), options.pop("validation", None)
    loader = data() if loader is None else loader
    saves = any(isinstance(callback, Checkpoint) for callback in callbacks)
    options = {**QUIET, "max_epochs": 2, "enable_checkpointing": saves, **options}
    trainer = pl.Trainer(default_root_dir=folder, callbacks=list(callbacks), **options)
    trainer.fit(module, loader, validation, ckpt_path=ckpt_path)
    return trainer


def differing(one: pl.LightningModule, other: pl.LightningModule) -> list[str]:
    """Names of the parameters and buffers that are not the same to the bit."""
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    return [name for name in first if not torch.equal(first[name], second[name])]


def journal(folder: Path, name: str = "debugkit") -> Events:
    """The journal of a run in which the kit itself must not have stumbled."""
    events = read_journal(folder / name)
    assert not events.of_kind("trouble"), events.of_kind("trouble")
    return events


def warned(events: Events) -> list[Finding]:
    return [finding for finding in events.findings if finding.severity >= Severity.WARNING]
