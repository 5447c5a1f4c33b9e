"""What a run's journal says of what was asked of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import GradientClippingMonitor, read_journal
from lightning_debugkit.provenance.snapshot.run_facts import flat_hyper_parameters

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]


class Net(pl.LightningModule):
    def __init__(self, drop: float, **more: Any) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Linear(2, 1)

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        return self.net(batch[0]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_hyper_parameters_and_batch_size_are_on_record(tmp_path: Path) -> None:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        max_steps=1, accelerator="cpu", default_root_dir=tmp_path, callbacks=GradientClippingMonitor(), **quiet
    )
    net = Net(0.7, optimizer={"name": "SGD", "token": "hunter2"}, table=torch.ones(3, 4))
    trainer.fit(net, DataLoader(TensorDataset(torch.ones(8, 2)), batch_size=4))
    (run,) = read_journal(tmp_path / "debugkit").of_kind("run")
    assert run["batch_size"] == 4
    assert run["config"]["hyper_parameters"] == {
        "drop": 0.7, "optimizer.name": "SGD", "optimizer.token": "***", "table": "tensor of [3, 4]",
    }  # fmt: skip


def test_they_are_few_and_short() -> None:
    held = {"text": "x" * 1000, "widths": list(range(1000)), **{f"n{count}": count for count in range(1000)}}
    told = flat_hyper_parameters(held)
    assert len(told) == 100
    assert max(len(str(value)) for value in told.values()) == 100
    assert told["n97"] == 97
