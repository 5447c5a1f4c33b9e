"""What a test or validation by itself logs is in the report, and a run that only evaluates is headed as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from monitors.breaking import QUIET
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import ErrorAnalysis, GradientAnomalyDetector, debugkit, read_journal
from lightning_debugkit.report import render

pytestmark = [pytest.mark.filterwarnings("ignore:.*:UserWarning"), pytest.mark.usefixtures("one_thread")]


class Classifier(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 3)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.evaluated(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.evaluated(batch, "test")

    def evaluated(self, batch: Any, name: str) -> None:
        scores = self.net(batch[0])
        nn.functional.cross_entropy(scores, batch[1])
        self.log(f"{name}_margin", scores.amax(1).mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader() -> DataLoader[Any]:
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(2))
    return DataLoader(TensorDataset(x, (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long()), 12)


def trainer(folder: Path, callbacks: Any) -> Trainer:
    torch.manual_seed(1)
    return Trainer(default_root_dir=folder, max_epochs=1, callbacks=callbacks, **QUIET)


def logged(folder: Path) -> list[tuple[int, str]]:
    points = [one for one in read_journal(folder / "debugkit").of_kind("measure") if one["name"] == "logged"]
    return [(one["step"], name) for one in points for name in one["value"]]


def test_a_test_after_the_fit(tmp_path: Path) -> None:
    net, fitted = Classifier(), trainer(tmp_path, debugkit("standard"))
    fitted.fit(net, loader(), loader())
    fitted.save_checkpoint(tmp_path / "end.ckpt")
    fitted.test(net, loader(), verbose=False)
    assert logged(tmp_path) == [(5, "val_margin"), (5, "test_margin")]
    fitted.test(net, loader(), verbose=False)  # the same again is no news
    with torch.no_grad():
        net.net.weight.zero_()
    fitted.test(net, loader(), ckpt_path=tmp_path / "end.ckpt", verbose=False)
    assert len(logged(tmp_path)) == 2
    with torch.no_grad():
        net.net.weight.zero_()
    fitted.validate(net, loader(), verbose=False)
    assert [name for _, name in logged(tmp_path)] == ["val_margin", "test_margin", "val_margin"]
    render(tmp_path / "debugkit")
    for name in ("report.md", "report.html"):
        assert "test_margin" in (tmp_path / "debugkit" / name).read_text(encoding="utf-8")


def test_a_report_that_is_there_gets_it_once(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_debugkit.core.run.SHORT", 0.0)
    rendered: list[Path] = []
    monkeypatch.setattr("lightning_debugkit.report.render", lambda folder: rendered.append(folder) or render(folder))
    net, fitted = Classifier(), trainer(tmp_path, [ErrorAnalysis(), GradientAnomalyDetector()])
    fitted.fit(net, loader(), loader())
    before = len(rendered)
    fitted.test(net, loader(), verbose=False)
    assert len(rendered) == before + 1
    assert "test_margin" in (tmp_path / "debugkit" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("stage", "said"), [("test", "tested"), ("validate", "validated")])
def test_a_run_that_only_evaluates_is_headed_as_one(stage: str, said: str, tmp_path: Path) -> None:
    net = Classifier()
    with torch.no_grad():  # right in all samples: else it is said to be no better than chance
        net.net.weight.copy_(torch.tensor([[-9.0, -9.0, 0, 0], [9, 0, 0, 0], [9, 9, 0, 0]]))
        net.net.bias.copy_(torch.tensor([4.5, 0, -4.5]))
    getattr(trainer(tmp_path, [ErrorAnalysis(), GradientAnomalyDetector()]), stage)(net, loader(), verbose=False)
    summary = render(tmp_path / "debugkit")
    assert read_journal(tmp_path / "debugkit").of_kind("end")[0]["stage"] == stage
    assert summary.verdict == f"The model was {said}, not trained; no fault was found."
