"""One cause that keeps gradients from many parameters is one finding with all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from monitors.breaking import QUIET
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import Finding, GradientAnomalyDetector, Severity, read_journal

pytestmark = pytest.mark.filterwarnings("ignore")


class Deep(pl.LightningModule):
    """Four layers in front of a head; ``cut`` says what keeps their gradients away."""

    def __init__(self, cut: str) -> None:
        super().__init__()
        self.cut = cut
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))
        self.unused = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}) if cut == "unused" else None
        self.apart = nn.Linear(4, 4) if cut == "unused" else None
        self.head = nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        h = batch[0]
        with torch.set_grad_enabled(self.cut != "no_grad"):
            for layer in self.layers:
                h = checkpoint(layer, h, use_reentrant=True) if self.cut == "checkpoint" else layer(h)
        return (self.head(h) - batch[1]).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-2)


def told(cut: str, folder: Path) -> list[Finding]:
    pl.seed_everything(2, verbose=False)
    x = torch.randn(96, 4)
    trainer = pl.Trainer(max_epochs=1, default_root_dir=folder, callbacks=[GradientAnomalyDetector()], **QUIET)
    trainer.fit(Deep(cut), DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8))
    journal = read_journal(folder / "debugkit")
    assert not journal.of_kind("trouble")
    return [finding for finding in journal.findings if finding.severity >= Severity.WARNING]


@pytest.mark.parametrize(
    ("cut", "says", "advice"),
    [
        (
            "checkpoint",
            "checkpoint(use_reentrant=True) gives none where no input of it needs one",
            "use_reentrant=False",
        ),
        ("no_grad", "gradients are off where linear is called (no_grad)", "Keep the graph at "),
    ],
)
def test_one_cut_is_one_finding_with_all_parameters(cut: str, says: str, advice: str, tmp_path: Path) -> None:
    (finding,) = told(cut, tmp_path)
    assert (finding.rule, finding.where.module) == ("no-gradient", "layers")
    assert says in finding.message
    assert advice in finding.advice
    assert finding.evidence["parameters"] == [f"layers.{i}.{kind}" for i in range(4) for kind in ("weight", "bias")]


def test_parts_that_are_never_used_are_one_finding(tmp_path: Path) -> None:
    (finding,) = told("unused", tmp_path)
    assert finding.rule == "no-gradient"
    assert "never used by the loss" in finding.message
    assert {name.rpartition(".")[0] for name in finding.evidence["parameters"]} == {"unused.a", "unused.b", "apart"}


def test_without_a_cut_nothing_is_said(tmp_path: Path) -> None:
    assert told("", tmp_path) == []


class Normed(pl.LightningModule):
    """Leaves out batches whose loss is not finite, which the statistics have taken in by then."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        loss = (self.net(batch[0]) - batch[1]).square().mean()
        return loss if torch.isfinite(loss) else None

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", (self.net(batch[0]) - batch[1]).square().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-2)


@pytest.mark.parametrize("broken", [True, False])
def test_statistics_that_one_batch_broke_are_told_once_in_however_many_validations(
    broken: bool, tmp_path: Path
) -> None:
    x = torch.randn(96, 4, generator=torch.Generator().manual_seed(2))
    y = x.sum(1, keepdim=True)
    if broken:
        x[20, 1] = torch.inf
    data, sound = DataLoader(TensorDataset(x, y), batch_size=8), DataLoader(TensorDataset(x[32:], y[32:]), batch_size=8)
    trainer = pl.Trainer(max_epochs=6, default_root_dir=tmp_path, callbacks=[GradientAnomalyDetector()], **QUIET)
    trainer.fit(Normed(), data, sound)
    told = [one for one in read_journal(tmp_path / "debugkit").findings if one.severity >= Severity.WARNING]
    assert [one.rule for one in told] == ["nonfinite-buffer"] * broken
    assert all("; of that batch, sample 4 holds numbers that are not finite" in one.message for one in told)
