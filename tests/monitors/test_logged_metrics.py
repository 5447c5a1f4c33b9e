"""What the user logs is in the journal as it was logged, and in the report where the loss is."""

import re
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from monitors.breaking import QUIET
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import GradientAnomalyDetector, read_journal
from lightning_debugkit.report import render


class Logs(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(4, 1)
        self.said: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = self.net(batch[0]).square().mean()
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        self.log("train/size", loss.sqrt(), on_step=False, on_epoch=True)
        self.log("train/batch", float(batch_idx))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        loss = self.net(batch[0]).square().mean()
        self.said.append(float(loss.detach()))
        self.log("val/loss", loss)
        self.log("val/size", loss.sqrt())
        self.log("val/count", float(batch_idx))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.05)


@pytest.mark.filterwarnings("ignore")
def test_what_is_logged_is_in_the_journal_once_and_in_the_report(tmp_path: Path) -> None:
    module = Logs()
    data = DataLoader(TensorDataset(torch.randn(32, 4)), batch_size=8)
    val = DataLoader(TensorDataset(torch.randn(24, 4)), batch_size=8)
    trainer = pl.Trainer(max_epochs=3, default_root_dir=tmp_path, callbacks=[GradientAnomalyDetector()], **QUIET)
    trainer.fit(module, data, val)
    folder = tmp_path / "debugkit"
    points = [event for event in read_journal(folder).of_kind("measure") if event["name"] == "logged"]
    losses = [(event["step"], event["value"]["val/loss"]) for event in points if "val/loss" in event["value"]]
    means = [sum(module.said[-9:][at : at + 3]) / 3 for at in (0, 3, 6)]
    assert losses == [(4 * epoch, pytest.approx(loss)) for epoch, loss in enumerate(means, start=1)]
    # Also those that stay as they are: a line that is flat is drawn as one.
    for name in ("train/size", "train/batch", "val/count"):
        assert [event["step"] for event in points if name in event["value"]] == [4, 8, 12]
    assert {name for event in points for name in event["value"]} == {
        "train/loss_epoch",
        "train/size",
        "train/batch",
        "val/loss",
        "val/size",
        "val/count",
    }
    render(folder)
    text = (folder / "report.md").read_text()
    assert "val/loss at 3 points" in text.replace("Val", "val")
    # What the section says of them: the last batch of four in training, the mean of three in validation.
    assert "what training_step logs is the value of one batch" in text
    last = {name: value for event in points for name, value in event["value"].items()}
    assert (last["train/batch"], last["val/count"]) == (3.0, 1.0)
    assert "## Logged metrics" in text
    assert text.count("(figures/logged-size.svg)") == 1
    assert re.search(r"train/size from \S+ to \S+; val/size from", text)  # training first, as in the figure of the loss
    assert "logged-loss" not in text


@pytest.mark.filterwarnings("ignore")
def test_a_metric_that_cannot_be_read_is_no_fault_of_the_kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> dict[str, float]:
        raise RuntimeError("no such metric")

    monkeypatch.setattr("lightning_debugkit.monitors.logged_metrics.LoggedMetrics.look", broken)
    data = DataLoader(TensorDataset(torch.randn(8, 4)), batch_size=8)
    trainer = pl.Trainer(max_epochs=1, default_root_dir=tmp_path, callbacks=[GradientAnomalyDetector()], **QUIET)
    trainer.fit(Logs(), data, data)
    assert not read_journal(tmp_path / "debugkit").of_kind("trouble")
