"""Errors in terms of any metric, logged or an object of torchmetrics."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
import torchmetrics
from evaluation.rigged import Rigged, answers, report
from monitors.breaking import journal
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit.evaluation.predictions.reader import PredictionsNotFound

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("metric", ["error", "val_acc"])
def test_a_metric_object_that_the_module_logs_is_read_on_training_data_too(metric: str, tmp_path: Path) -> None:
    """The second road for a metric that is logged as an object is the error that we count ourselves."""

    class Logs(Rigged):
        def __init__(self) -> None:
            super().__init__()
            self.val_accuracy = torchmetrics.classification.MulticlassAccuracy(4, average="micro")

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.val_accuracy.update(self(batch[0]), batch[1])
            self.log("val_acc", self.val_accuracy)

    found = report(tmp_path, answers(130, 13), answers(70, 14), module=Logs(), metric=metric)["errors"]
    right = {name: error["value"] if metric == "val_acc" else 1 - error["value"] for name, error in found.items()}
    assert right == {"train": pytest.approx(0.9), "val": pytest.approx(0.8)}


class Regression(pl.LightningModule):
    """Says what its batch holds; the targets are those and some noise."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.mse_loss(self(batch[0])[:, 0], batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        apart = self(batch[0])[:, 0] - batch[1]
        self.log_dict({"val_mae": apart.abs().mean(), "val_score": -apart.abs().mean()})

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_mae", (self(batch[0])[:, 0] - batch[1]).abs().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def values(n: int, spread: float, size: int = 32) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(n, 1, generator=generator)
    return DataLoader(TensorDataset(x, x[:, 0] + spread * torch.randn(n, generator=generator)), batch_size=size)


def apart(loader: DataLoader[Any]) -> Tensor:
    x, y = loader.dataset.tensors
    return x[:, 0] - y


def test_a_goal_in_terms_of_a_logged_metric(tmp_path: Path) -> None:
    loaders = values(301, 0.5), values(203, 1.0), values(155, 1.1)
    found = report(tmp_path, *loaders, module=Regression(), goal={"val_mae": 0.3})
    assert (found["metric"], found["goal"]) == ("val_mae", 0.3)
    for name, loader in zip(("train", "val", "test"), loaders, strict=True):
        error = found["errors"][name]
        assert error["value"] == pytest.approx(apart(loader).abs().mean().item(), rel=1e-5), (
            "uneven batches are weighed"
        )
        assert error["low"] < error["value"] < error["high"]
    assert found["gaps"]["avoidable_bias"]["value"] == pytest.approx(found["errors"]["train"]["value"] - 0.3)
    assert "overfitting: validation val_mae is" in found["verdict"]


def test_a_logged_metric_may_be_better_when_higher(tmp_path: Path) -> None:
    low = report(tmp_path / "low", values(301, 0.5), values(203, 1.0), module=Regression(), metric="val_mae")
    high = report(
        tmp_path / "high", values(301, 0.5), values(203, 1.0), module=Regression(), metric="val_score", maximize=True
    )
    assert high["errors"]["val"]["value"] == pytest.approx(-low["errors"]["val"]["value"])
    assert high["gaps"]["variance"]["value"] == pytest.approx(low["gaps"]["variance"]["value"])


@pytest.mark.parametrize(
    ("metric", "second"),
    [
        (torchmetrics.MeanAbsoluteError(), lambda apart: apart.abs().mean()),
        (torchmetrics.MeanSquaredError(squared=False), lambda apart: apart.square().mean().sqrt()),
        (torchmetrics.SpearmanCorrCoef(), None),
    ],
)
def test_any_metric_of_torchmetrics(metric: Any, second: Any, tmp_path: Path) -> None:
    loaders = values(301, 0.5), values(203, 1.0)
    found = report(tmp_path, *loaders, module=Regression(), metric=metric)
    assert found["metric"] == type(metric).__name__
    for name, loader in zip(("train", "val"), loaders, strict=True):
        error = found["errors"][name]
        x, y = loader.dataset.tensors
        expected = torchmetrics.functional.spearman_corrcoef(x[:, 0], y) if second is None else second(apart(loader))
        assert error["value"] == pytest.approx(expected.item(), rel=1e-4)
        assert error["low"] < error["value"] < error["high"]
        assert error["high"] - error["low"] < 0.3
    assert found["gaps"]["variance"]["value"] > 0, "worse on validation, whichever way the metric points"
    assert not math.isnan(metric.total) if hasattr(metric, "total") else True
    assert metric.update_count == 0, "the user's own metric is not touched"


def test_macro_metrics_are_bootstrapped_over_the_confusion(tmp_path: Path) -> None:
    metric = torchmetrics.classification.MulticlassF1Score(4, average="macro")
    loaders = answers(400, 40), answers(300, 90)
    found = report(tmp_path, *loaders, metric=metric, goal=0.99)
    said, target = loaders[1].dataset.tensors
    expected = torchmetrics.functional.f1_score(said, target, "multiclass", num_classes=4, average="macro")
    assert found["errors"]["val"]["value"] == pytest.approx(expected.item())
    assert found["errors"]["val"]["low"] < expected.item() < found["errors"]["val"]["high"]
    assert list(found["gaps"]) == ["avoidable_bias", "variance"]
    assert found["gaps"]["avoidable_bias"]["value"] == pytest.approx(0.99 - found["errors"]["train"]["value"])


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("no_process_left")
def test_two_processes_agree_with_one_on_any_metric(tmp_path: Path) -> None:
    metric = torchmetrics.SpearmanCorrCoef
    loaders = values(301, 0.5), values(203, 1.0)
    alone = report(tmp_path / "alone", *loaders, module=Regression(), metric=metric())
    both = report(
        tmp_path / "both", *loaders, module=Regression(), metric=metric(),
        trainer={"strategy": "ddp_fork", "devices": 2},
    )  # fmt: skip
    for name in ("train", "val"):
        assert both["errors"][name]["n"] == alone["errors"][name]["n"]
        assert both["errors"][name]["value"] == pytest.approx(alone["errors"][name]["value"], rel=1e-4)


def test_a_metric_that_is_nan_gives_no_verdict(tmp_path: Path) -> None:
    class Broken(Regression):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_mae", torch.tensor(math.nan))

    found = report(tmp_path, values(64, 1.0), values(64, 1.0), module=Broken(), goal={"val_mae": 0.3})
    assert found["errors"]["val"] == {"value": "nan", "low": "nan", "high": "nan", "n": 64}
    assert found["verdict"] == "cannot tell: training val_mae is nan"
    assert found["next"][0].startswith("Find out where the numbers break")
    assert journal(tmp_path).findings == []


def test_a_metric_that_is_never_logged_is_told_in_the_sanity_check(tmp_path: Path) -> None:
    with pytest.raises(PredictionsNotFound) as caught:
        report(tmp_path, values(64, 1.0), values(64, 1.0), module=Regression(), metric="val_mea")
    assert str(caught.value) == (
        "BiasVarianceReport needs validation_step to log 'val_mea', got 'val_mae', 'val_score'; log it there, or name "
        "one of these as metric."
    )
