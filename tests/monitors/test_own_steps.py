"""Programs that step an optimizer themselves, and rates of 0: what trains is not called untrained."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import GradientAnomalyDetector, read_journal

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]


class Net(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", nn.functional.mse_loss(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 1e-2)


class StepsItself(Net):
    """A plain loop pasted into ``training_step``, beside automatic optimization."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        loss = super().training_step(batch, batch_idx)
        self.optimizers().zero_grad()
        loss.backward()
        self.optimizers().step()


class RestsFirst(Net):
    """A warm-up by epochs whose first epoch has a rate of 0."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 1e-2)
        return [optimizer], [LambdaLR(optimizer, lambda epoch: min(1.0, epoch / 2))]


@pytest.mark.parametrize(
    ("module", "rule"), [(StepsItself, "no-loss"), (RestsFirst, "untrained-weights-validated")], ids=["own", "rest"]
)
def test_weights_that_train_are_not_called_untrained(module: type[Net], rule: str, tmp_path: Path):
    x = torch.randn(1280, 8)
    data = DataLoader(TensorDataset(x, x[:, :1]), 32)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    options = {"accelerator": "cpu", "max_epochs": 3, "default_root_dir": tmp_path, **quiet}
    pl.Trainer(callbacks=[GradientAnomalyDetector()], **options).fit(module(), data, data)
    assert rule not in [finding.rule for finding in read_journal(tmp_path / "debugkit").findings]


class SkipsInRows(Net):
    """A test the wrong way round lets two batches of forty train."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        return super().training_step(batch, batch_idx) if batch_idx % 20 == 0 else None


def test_what_trains_between_two_rows_without_a_loss_does_not_hide_the_second(tmp_path: Path) -> None:
    x = torch.randn(1280, 8)
    data = DataLoader(TensorDataset(x, x[:, :1]), 32)
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, default_root_dir=tmp_path, callbacks=[GradientAnomalyDetector()], **quiet
    )
    trainer.fit(SkipsInRows(), data)
    told = [found.message for found in read_journal(tmp_path / "debugkit").findings if found.rule == "no-loss"]
    assert told == ["training_step gave no loss in 38 of 40 batches of epoch 0: these batches train nothing"]
