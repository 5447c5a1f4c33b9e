"""What breaks on one rank of two is told by that rank, and nobody waits for ever."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import GradientAnomalyDetector, read_journal

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("no_process_left"),
    pytest.mark.filterwarnings("ignore"),
]


class OneRank(pl.LightningModule):
    """At the third batch, rank 1 takes the logarithm of zero; smooth L1 keeps every gradient finite."""

    def __init__(self, fault: str = "loss") -> None:
        super().__init__()
        self.net = nn.Linear(4, 1)
        self.fault = fault

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        struck = batch_idx == 2 and self.trainer.global_rank == 1
        y = torch.log(torch.zeros_like(y)) if struck and self.fault == "loss" else y
        loss = F.smooth_l1_loss(self.net(x).float(), y)
        if struck and self.fault == "gradient":
            loss = loss + torch.sqrt(0 * self.net(x).sum())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(folder: Path, fault: str, plugins: Any = None, **options: Any) -> Exception | None:
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(96, 4), torch.rand(96, 1))
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo", timeout=timedelta(seconds=30))
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=2,
        strategy=strategy,
        plugins=plugins,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[GradientAnomalyDetector(**options)],
    )
    try:
        trainer.fit(OneRank(fault), DataLoader(data, batch_size=8))
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("fault", ["loss", "gradient"])
@pytest.mark.parametrize("action", ["raise", "stop", "skip", "warn"])
def test_the_rank_is_named_and_nobody_waits(fault: str, action: str, tmp_path: Path) -> None:
    error = fit(tmp_path, fault, action=action)
    journal = read_journal(tmp_path / "debugkit")
    assert {
        (finding.rule, finding.where.rank) for finding in journal.findings if finding.rule != "replicas-differ"
    } == {(f"nonfinite-{fault}", 1)}
    assert (error is not None) == (action == "raise")
    assert not (troubles := journal.of_kind("trouble")), troubles
    ends = {event["rank"]: (event["status"], event["step"]) for event in journal.of_kind("end")}
    assert ends[0] == ends[1], "all ranks do the same"


@pytest.mark.parametrize("action", ["raise", "warn"])
def test_under_a_loss_scale_nobody_waits_either(action: str, tmp_path: Path) -> None:
    error = fit(tmp_path, "loss", plugins=[MixedPrecision("16-mixed", "cpu")], action=action)
    found = read_journal(tmp_path / "debugkit").findings
    assert [(finding.rule, finding.where.rank) for finding in found] == [("nonfinite-loss", 1)]
    assert (error is not None) == (action == "raise")
