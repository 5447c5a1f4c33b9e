"""A user's package whose model is trained with `CodeSnapshot`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from lightning_debugkit import read_journal
from lightning_debugkit.core.journal import Events

MODEL = '''
"""A model of a user."""
import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class Net(pl.LightningModule):
    def __init__(self, width=8):
        super().__init__()
        self.save_hyperparameters()
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Dropout(0.5), torch.nn.Linear(width, 1))

    def forward(self, x):
        return self.layers(x)

    def training_step(self, batch, batch_idx):
        loss = self(batch[0]).square().mean()
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self(batch[0]).square().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())

    def train_dataloader(self):
        generator = torch.Generator().manual_seed(1)
        return DataLoader(TensorDataset(torch.randn(32, 4, generator=generator)), 8)

    val_dataloader = train_dataloader
'''


def model(package: Path) -> Any:
    module = __import__(f"{package.name}.model", fromlist=["Net"])
    pl.seed_everything(3, verbose=False)
    return module.Net()


def fit(package: Path, *callbacks: Callback, **options: Any) -> pl.Trainer:
    usual: dict[str, Any] = {"max_epochs": 2, "logger": False, "default_root_dir": package.parents[1] / "runs"}
    trainer = pl.Trainer(
        callbacks=list(callbacks), accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
        **{**usual, **options},
    )  # fmt: skip
    trainer.fit(model(package), ckpt_path=None)
    return trainer


def folder_of(package: Path, number: int = 0) -> Path:
    return package.parents[1] / "runs" / (f"debugkit-{number}" if number else "debugkit")


def journal(package: Path, number: int = 0) -> Events:
    return read_journal(folder_of(package, number))


def rules(events: Events) -> list[str]:
    return [finding.rule for finding in events.findings]


def exported(package: Path) -> dict[str, Any]:
    """What is said of the program of the forward."""
    (event,) = [event for event in journal(package).of_kind("artifact") if event["name"] == "export"]
    return event
