"""A history that a module keeps is none of a metric, unless a metric is the mean of all of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from monitors.breaking import QUIET, journal
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import GradientAnomalyDetector

pytestmark = pytest.mark.filterwarnings("ignore")


class Keeps(pl.LightningModule):
    """Keeps the losses of validation, and logs what it is made to.

    Args:
        value: Of the module at the end of a validation, to what is logged.
        kept: What of it goes on.
    """

    def __init__(self, value: Callable[[Any], Any], kept: str) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)
        self.value, self.kept = value, kept
        self.losses: list[float] = []
        self.parts: dict[str, list[Tensor]] = {"val": []}
        self.now: list[float] = []
        self.batches = 0
        self.register_buffer("total", torch.zeros(()))

    def loss(self, batch: Any) -> Tensor:
        return (self.layer(batch[0])[:, 0] - batch[0].sum(1)).square().mean()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(batch)

    def on_validation_epoch_start(self) -> None:
        self.now.clear()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        loss = self.loss(batch).detach()
        self.now.append(float(loss))
        if self.kept == "losses":
            self.losses.append(float(loss))
        elif self.kept == "parts['val']":
            self.parts["val"].append(loss)
        else:
            self.total += loss
            self.batches += 1

    def on_validation_epoch_end(self) -> None:
        self.log("value", self.value(self))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-2)


def told(value: Callable[[Any], Any], folder: Path, kept: str = "losses") -> list[str]:
    pl.seed_everything(0, verbose=False)
    data = DataLoader(TensorDataset(torch.randn(64, 4)), batch_size=8)
    options = {**QUIET, "max_epochs": 4, "default_root_dir": folder}
    pl.Trainer(callbacks=[GradientAnomalyDetector()], **options).fit(Keeps(value, kept), data, data)
    return [finding.message for finding in journal(folder).findings if finding.rule == "metric-not-reset"]


MEANS: dict[str, Callable[[Any], Any]] = {
    "losses": lambda module: sum(module.losses) / len(module.losses),
    "parts['val']": lambda module: torch.stack(module.parts["val"]).mean(),
    "total": lambda module: module.total / module.batches,
}


@pytest.mark.parametrize("name", MEANS)
def test_a_mean_of_all_validations_is_told_once(name: str, tmp_path: Path) -> None:
    (message,) = told(MEANS[name], tmp_path, kept=name)
    assert message.startswith(f"self.{name} ")


HEALTHY: dict[str, Callable[[Any], Any]] = {
    "the mean of this validation": lambda module: sum(module.now) / len(module.now),
    "the mean of the newest entries": lambda module: sum(module.losses[-8:]) / 8,
    "the best of all": lambda module: min(module.losses),
    # As the loss of training may be, where all losses stand still.
    "once the mean of all": lambda module: MEANS["losses"](module) if module.current_epoch == 2 else 0.0,
    "a count": lambda module: float(len(module.losses)),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_what_is_kept_for_something_else_is_left_in_peace(name: str, tmp_path: Path) -> None:
    assert told(HEALTHY[name], tmp_path) == []
