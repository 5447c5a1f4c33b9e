"""A metric object that carries over what is not of a stage's samples is reported with what they alone say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
import torchmetrics as tm
from monitors.breaking import QUIET
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import ErrorAnalysis, Finding, read_journal

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]

MADE = {
    "accuracy": lambda: tm.Accuracy("multiclass", num_classes=3),
    "macro": lambda: tm.Accuracy("multiclass", num_classes=3, average="macro"),
    "top-2": lambda: tm.Accuracy("multiclass", num_classes=3, top_k=2),
    "f1": lambda: tm.F1Score("multiclass", num_classes=3, average="macro"),
    "auroc": lambda: tm.AUROC("multiclass", num_classes=3),  # keeps lists
}


class Model(pl.LightningModule):
    """Labels of the training data can be learnt by heart, those of validation are noise."""

    def __init__(self, how: str, metric: str = "accuracy") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(torch.nn.Linear(20, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3))
        self.how = how
        self.acc, self.train_acc, self.best = MADE[metric](), MADE[metric](), tm.MaxMetric()
        self.own = MADE[metric]()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        scores = self.net(batch[0])
        (self.acc if "shared" in self.how else self.train_acc).update(scores.softmax(1), batch[1])
        return F.cross_entropy(scores, batch[1])

    def on_train_epoch_end(self) -> None:
        self.train_acc.reset()

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        scores = self.net(batch[0])
        self.own.update(scores.softmax(1), batch[1])
        if "batch" in self.how:
            self.log("val_acc", self.acc(scores.softmax(1), batch[1]))
            self.acc.reset()
        else:
            self.acc.update(scores.softmax(1), batch[1])
        if "object" in self.how:
            self.log("val_acc", self.acc)
        return {"loss": F.cross_entropy(scores, batch[1]), "logits": scores, "target": batch[1]}

    def on_validation_epoch_start(self) -> None:
        self.own.reset()
        if "begins" in self.how:
            self.acc.reset()

    def on_validation_epoch_end(self) -> None:
        if "object" in self.how or "batch" in self.how:
            return
        self.log("val_acc", self.acc.compute())
        self.best.update(self.acc.compute())
        self.log("val_best", self.best.compute())
        if "ends" in self.how:
            self.acc.reset()

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 1e-2)


def fit(folder: Path, model: Model, epochs: int = 6) -> list[Finding]:
    draw = torch.Generator().manual_seed(1)
    sets = [
        TensorDataset(torch.randn(n, 20, generator=draw), torch.randint(0, 3, (n,), generator=draw)) for n in (96, 45)
    ]
    options = {**QUIET, "max_epochs": epochs, "num_sanity_val_steps": 1}
    trainer = pl.Trainer(default_root_dir=folder, callbacks=[ErrorAnalysis()], **options)
    trainer.fit(model, DataLoader(sets[0], 16), DataLoader(sets[1], 16))
    journal = read_journal(folder / "debugkit")
    assert not journal.of_kind("trouble")
    return [finding for finding in journal.findings if finding.rule == "metric-disagrees"]


@pytest.mark.parametrize("metric", MADE)
@pytest.mark.parametrize("how", ["shared", "shared object", "never reset"])
def test_what_was_held_before_is_reported_with_both_figures(how: str, metric: str, tmp_path: Path) -> None:
    model = Model(how, metric)
    found = fit(tmp_path, model, epochs=1 if metric == "auroc" else 6)
    if how == "never reset" and not found:
        pytest.skip("the epochs said the same")
    (finding,) = found
    assert finding.where.module == "acc"
    assert finding.evidence["logged"] == "val_acc"
    assert finding.evidence["value"] != pytest.approx(finding.evidence["own"], rel=1e-3)
    if finding.where.epoch == model.trainer.current_epoch - 1:
        assert finding.evidence["own"] == pytest.approx(float(model.own.compute()), abs=1e-6)
        assert finding.evidence["value"] == pytest.approx(float(model.trainer.callback_metrics["val_acc"]), abs=1e-6)


@pytest.mark.parametrize("metric", MADE)
@pytest.mark.parametrize("how", ["object", "ends", "begins", "batch", "shared begins"])
def test_metrics_that_are_reset_and_averages_of_batches_are_left_in_peace(
    how: str, metric: str, tmp_path: Path
) -> None:
    assert fit(tmp_path, Model(how, metric), epochs=2) == []


def test_the_metric_itself_goes_on_as_without(tmp_path: Path) -> None:
    values = []
    for name, callbacks in (("without", []), ("with", [ErrorAnalysis()])):
        model = Model("shared")
        data = DataLoader(TensorDataset(torch.randn(32, 20), torch.randint(0, 3, (32,))), 8)
        torch.manual_seed(3)
        options = {**QUIET, "max_epochs": 2}
        pl.Trainer(default_root_dir=tmp_path / name, callbacks=callbacks, **options).fit(model, data, data)
        values.append((model.acc._update_count, float(model.acc.compute())))
    assert values[0][0] == values[1][0]
