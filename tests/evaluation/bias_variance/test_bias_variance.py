"""Errors as they are, to the last sample, and a training that does not know it is watched."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchmetrics
from evaluation.rigged import Rigged, answers, read, report
from lightning.pytorch.callbacks import ModelCheckpoint
from monitors.breaking import QUIET, differing, journal
from scipy.stats import binomtest
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_debugkit import BiasVarianceReport, GradientAnomalyDetector, Severity
from lightning_debugkit.evaluation.predictions.reader import PredictionsNotFound

pytestmark = pytest.mark.filterwarnings("ignore")


def wilson(wrong: int, n: int) -> tuple[float, float]:
    """SciPy's."""
    found = binomtest(wrong, n).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def newcombe(wrong: int, n: int, before: int, m: int) -> tuple[float, float]:
    """Newcombe's method 10 from SciPy's intervals, written out."""
    (low, high), (low0, high0) = wilson(wrong, n), wilson(before, m)
    p, p0 = wrong / n, before / m
    return (
        p - p0 - math.sqrt((p - low) ** 2 + (high0 - p0) ** 2),
        p - p0 + math.sqrt((high - p) ** 2 + (p0 - low0) ** 2),
    )


def bounds(found: dict[str, float]) -> tuple[float, float]:
    return found["low"], found["high"]


def test_the_table_of_the_lecture(tmp_path: Path) -> None:
    """Goal 1, training 20, validation 27, test 28 %: avoidable bias 19, variance 7, validation overfitting 1 points."""
    found = report(tmp_path, answers(1000, 200, shuffle=True), answers(1000, 270), answers(1000, 280), goal=0.01)
    assert list(found) == ["metric", "goal", "errors", "gaps", "verdict", "next"]
    assert (found["metric"], found["goal"]) == ("error", 0.01)
    assert {name: (error["value"], error["n"]) for name, error in found["errors"].items()} == {
        "train": (0.2, 1000),
        "val": (0.27, 1000),
        "test": (0.28, 1000),
    }
    for name, wrong in (("train", 200), ("val", 270), ("test", 280)):
        assert bounds(found["errors"][name]) == pytest.approx(wilson(wrong, 1000))

    gaps = found["gaps"]
    assert {name: round(100 * gap["value"], 9) for name, gap in gaps.items()} == {
        "avoidable_bias": 19,
        "variance": 7,
        "validation_overfitting": 1,
    }
    low, high = wilson(200, 1000)
    assert bounds(gaps["avoidable_bias"]) == pytest.approx((low - 0.01, high - 0.01))
    assert bounds(gaps["variance"]) == pytest.approx(newcombe(270, 1000, 200, 1000))
    assert bounds(gaps["validation_overfitting"]) == pytest.approx(newcombe(280, 1000, 270, 1000))

    assert found["verdict"].startswith("underfitting: training error is 19 points (16.6 to 21.6) worse")
    assert found["next"][0] == "Make the model larger: with 1 trainable parameter, training error is 20 %."
    assert [(f.rule, f.severity) for f in journal(tmp_path).findings] == [
        ("underfitting", Severity.WARNING),
        ("overfitting", Severity.INFO),
    ]


def test_uneven_last_batches_and_every_sample_count_once(tmp_path: Path) -> None:
    found = report(tmp_path, answers(131, 17, size=32), answers(101, 13, size=30), answers(33, 7, size=32))
    assert {name: (round(e["value"] * e["n"]), e["n"]) for name, e in found["errors"].items()} == {
        "train": (17, 131),
        "val": (13, 101),
        "test": (7, 33),
    }


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize("n", [101, 3])
def test_two_processes_count_padded_samples_once(n: int, tmp_path: Path) -> None:
    found = []
    for name, options in (("alone", {}), ("both", {"strategy": "ddp_fork", "devices": 2})):
        folder = tmp_path / name
        report(folder / "fit", answers(131, 17, size=16), answers(n, 2, size=16), trainer=options)
        tester = pl.Trainer(default_root_dir=folder / "test", callbacks=[BiasVarianceReport()], **{**QUIET, **options})
        tester.test(Rigged(), answers(n + 2, 3, size=16), verbose=False)
        assert not journal(folder / "fit").of_kind("trouble") + journal(folder / "test").of_kind("trouble")
        found.append((read(folder / "fit"), read(folder / "test")))
    assert found[0] == found[1]
    fitted, tested = found[1]
    assert [fitted["errors"][name]["n"] for name in ("train", "val")] == [131, n]
    assert tested["errors"]["test"]["n"] == n + 2


class Noisy(Dataset[Any]):
    """Digits of noise, augmented at random by generators of all kinds, one of them its own."""

    def __init__(self, n: int = 96) -> None:
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(n, 6, generator=generator)
        self.y = (self.x.sum(1) > 0).long()
        self.own = np.random.default_rng(4)
        self.torch = torch.Generator().manual_seed(9)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        noise = 0.1 * torch.randn(6) + float(self.own.normal(0, 0.1)) + 0.1 * float(np.random.rand())
        return self.x[index] + noise + 0.1 * torch.rand(6, generator=self.torch), self.y[index]


class Delicate(pl.LightningModule):
    """All that a look could disturb: dropout, batch norm, metrics, counters, logs."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2))
        self.accuracy = torchmetrics.classification.BinaryAccuracy()
        self.val_accuracy = torchmetrics.classification.BinaryAccuracy()
        self.seen: list[int] = []
        self.logged: list[tuple[str, float]] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        scores = self(batch[0])
        self.accuracy(scores.argmax(1), batch[1])
        self.log("train_acc", self.accuracy, on_step=True, on_epoch=True)
        return F.cross_entropy(scores, batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.seen.append(len(batch[1]))
        scores = self(batch[0])
        self.val_accuracy.update(scores.argmax(1), batch[1])
        self.log("val_acc", self.val_accuracy)
        self.log("val_loss", F.cross_entropy(scores, batch[1]))

    def on_train_epoch_end(self) -> None:
        self.logged += [(name, float(value)) for name, value in self.trainer.callback_metrics.items()]

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def delicate(folder: Path, *callbacks: pl.Callback, **options: Any) -> Delicate:
    pl.seed_everything(2, verbose=False)
    module = Delicate()
    trainer = pl.Trainer(default_root_dir=folder, callbacks=list(callbacks), **{**QUIET, "max_epochs": 3, **options})
    trainer.fit(module, DataLoader(Noisy(), batch_size=16, shuffle=True), DataLoader(Noisy(40), batch_size=16))
    return module


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"metric": "val_acc"},
        {"metric": torchmetrics.classification.MulticlassF1Score(2)},
        {"adapter": "operator.eq"},
    ],
    ids=["error", "logged", "metric", "adapter that fails"],
)
def test_weights_statistics_logs_and_counters_are_those_of_the_run_without(arguments: Any, tmp_path: Path) -> None:
    alone = delicate(tmp_path / "alone")
    callback = BiasVarianceReport(on_missing="warn", **arguments)
    watched = delicate(tmp_path / "watched", callback)
    assert differing(alone, watched) == []
    assert watched.logged == alone.logged
    assert watched.seen == alone.seen
    assert all(part.training for part in watched.modules())
    if "adapter" not in arguments:
        assert {"train", "val"} <= set(callback.memory.moments[-1]["errors"])


def test_the_training_error_is_that_of_a_plain_forward_in_eval_mode(tmp_path: Path) -> None:
    class Plain(Noisy):
        def __getitem__(self, index: int) -> Any:
            return self.x[index], self.y[index]

    pl.seed_everything(2, verbose=False)
    module, callback = Delicate(), BiasVarianceReport()
    trainer = pl.Trainer(default_root_dir=tmp_path, callbacks=[callback], max_epochs=3, **QUIET)
    trainer.fit(module, DataLoader(data := Plain(), batch_size=16, shuffle=True), DataLoader(Plain(40), batch_size=16))
    module.eval()
    wrong = int((module(data.x).argmax(1) != data.y).sum())
    assert read(tmp_path)["errors"]["train"]["value"] == wrong / 96
    assert not math.isclose(1 - float(trainer.callback_metrics["train_acc_epoch"]), wrong / 96)
    (notes,) = [m["value"]["notes"] for m in journal(tmp_path).of_kind("measure") if m["name"] == "bias-variance"]
    assert any("in eval mode on 96 samples; train_acc" in note and "as it was logged" in note for note in notes)


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


def test_a_bounded_part_of_the_training_data_is_the_same_each_time(tmp_path: Path) -> None:
    callback = BiasVarianceReport(train_samples=50)
    report(tmp_path, answers(200, 40, shuffle=True), answers(64, 6), callback=callback, trainer={"max_epochs": 3})
    found = [moment["errors"]["train"] for moment in callback.memory.moments]
    assert [error[3] for error in found] == [50, 50, 50]
    assert found[0] == found[1] == found[2], "this model never changes its answers"


def test_a_part_of_the_training_data_is_held_out(tmp_path: Path) -> None:
    class Remembers(Rigged):
        def __init__(self) -> None:
            super().__init__(classes=200)
            self.trained: set[int] = set()

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.trained |= set(batch[1].tolist())
            return super().training_step(batch, batch_idx)

    module, callback = Remembers(), BiasVarianceReport(train_dev=0.25, goal=0.0)
    train = answers(200, 40, classes=200, shuffle=True)
    dataset, loaded = train.dataset, (train.dataset, train.sampler, train.batch_sampler)
    found = report(
        tmp_path, train, answers(200, 90, classes=200), module=module, callback=callback, trainer={"max_epochs": 3}
    )
    assert len(module.trained) == 150, "the same quarter is left out in every epoch"
    held = [i for i in range(200) if i not in module.trained]
    said, target = dataset.tensors
    wrong = int((said[held] != target[held]).sum())
    errors = found["errors"]
    assert (errors["train_dev"]["value"] * 50, errors["train_dev"]["n"]) == (pytest.approx(wrong), 50)
    assert (errors["train"]["value"] * 150, errors["train"]["n"]) == (pytest.approx(40 - wrong), 150)
    assert set(found["gaps"]) == {"avoidable_bias", "variance", "distribution_shift"}
    assert found["gaps"]["distribution_shift"]["value"] == pytest.approx(0.45 - wrong / 50)
    assert (train.dataset, train.sampler, train.batch_sampler) == loaded, "the user's loader is whole again"
    assert len(train.sampler) == 200
    assert callback.facts.samples == 150


def test_a_part_held_out_leaves_dataset_indices_as_they_are(tmp_path: Path) -> None:
    class Breaks(Rigged):
        """Its loss is NaN for sample 77 of the data set."""

        def step(self, batch: Any) -> Tensor:
            return super().step((batch[0] % 4, batch[1] % 4)) * torch.where((batch[1] == 77).any(), math.nan, 1.0)

    target = torch.arange(200)
    loader = DataLoader(TensorDataset(target, target), batch_size=16, shuffle=True)
    detector = GradientAnomalyDetector(action="warn")
    pl.seed_everything(1, verbose=False)
    trainer = pl.Trainer(
        default_root_dir=tmp_path, max_epochs=1, callbacks=[detector, BiasVarianceReport(train_dev=0.1)], **QUIET
    )
    trainer.fit(Breaks(), loader)
    told = [finding for finding in journal(tmp_path).findings if finding.rule.startswith("nonfinite")]
    assert told[0].evidence["dataset_indices"] == [77]


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("no_process_left")
def test_two_processes_hold_the_same_part_out(tmp_path: Path) -> None:
    found = [
        report(tmp_path / name, answers(200, 40), answers(60, 6), train_dev=0.25, trainer=options)["errors"]
        for name, options in (("alone", {}), ("both", {"strategy": "ddp_fork", "devices": 2}))
    ]
    assert found[0] == found[1]


def test_a_loader_that_cannot_be_split_is_told(tmp_path: Path) -> None:
    data = answers(64, 4).dataset
    sampler = torch.utils.data.WeightedRandomSampler([1.0] * 64, 64)
    with pytest.raises(ValueError) as caught:
        report(tmp_path, DataLoader(data, sampler=sampler), answers(64, 4), train_dev=0.25)
    assert str(caught.value) == (
        "BiasVarianceReport needs one training DataLoader with a plain sampler to hold train_dev out, got "
        "WeightedRandomSampler; hold a part out yourself and name its loader in roles."
    )


def test_several_validation_loaders_have_their_roles(tmp_path: Path) -> None:
    class Several(Rigged):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.step(batch)

    loaders = [answers(100, 30), answers(80, 16), answers(60, 3)]
    found = report(tmp_path, answers(64, 8), loaders, module=Several(), roles=["val", "train_dev", "hard"], goal=0.0)
    assert {name: (round(e["value"] * e["n"]), e["n"]) for name, e in found["errors"].items()} == {
        "train": (8, 64),
        "train_dev": (16, 80),
        "val": (30, 100),
        "hard": (3, 60),
    }
    assert found["gaps"]["distribution_shift"]["value"] == pytest.approx(0.1)
    usual = report(tmp_path / "usual", answers(64, 8), loaders, module=Several())
    assert list(usual["errors"]) == ["train", "val", "val_1", "val_2"]


def test_a_loader_with_the_transforms_of_validation_may_be_named(tmp_path: Path) -> None:
    class Owns(Rigged):
        def plain_loader(self) -> DataLoader[Any]:
            return answers(40, 10)

    found = report(tmp_path, answers(64, 8), answers(64, 8), module=Owns(), train_loader="plain_loader")
    assert (found["errors"]["train"]["value"], found["errors"]["train"]["n"]) == (0.25, 40)


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


def test_without_a_goal_nobody_is_said_to_underfit(tmp_path: Path) -> None:
    found = report(tmp_path, answers(1000, 300), answers(1000, 360))
    assert found["goal"] is None
    assert found["gaps"]["avoidable_bias"]["value"] == pytest.approx(0.3), "an upper bound"
    assert found["verdict"].startswith("overfitting: validation error is 6 points")
    assert found["verdict"].endswith("without a goal nobody can tell how much of it is avoidable")
    assert [f.rule for f in journal(tmp_path).findings] == ["overfitting"]
    assert found["next"][-1].startswith("State a goal")


def test_without_validation_there_is_bias_alone(tmp_path: Path) -> None:
    found = report(tmp_path, answers(1000, 300), goal=0.05)
    assert (list(found["errors"]), list(found["gaps"])) == (["train"], ["avoidable_bias"])
    assert found["verdict"].startswith("underfitting: training error is 25 points")
    alone = report(tmp_path / "alone", answers(1000, 300))
    assert alone["verdict"] == "cannot tell: only the training error is known, and there is no goal"
    assert alone["next"][0] == "Give trainer.fit a validation loader, and call trainer.test."


def test_a_goal_that_is_counted_has_bounds_of_its_own(tmp_path: Path) -> None:
    found = report(tmp_path, answers(1000, 60), answers(1000, 60), goal=(3, 100))
    assert found["goal"] == 0.03
    assert bounds(found["gaps"]["avoidable_bias"]) == pytest.approx(newcombe(60, 1000, 3, 100))
    assert found["verdict"].startswith("cannot tell yet")


def test_one_class_gives_no_verdict(tmp_path: Path) -> None:
    found = report(tmp_path, answers(100, 50), answers(100, 0, classes=1), goal=0.0)
    assert found["verdict"] == "cannot tell: all targets of the validation data are of one class, 0"
    assert journal(tmp_path).findings == []


def test_a_metric_that_is_nan_gives_no_verdict(tmp_path: Path) -> None:
    class Broken(Regression):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_mae", torch.tensor(math.nan))

    found = report(tmp_path, values(64, 1.0), values(64, 1.0), module=Broken(), goal={"val_mae": 0.3})
    assert found["errors"]["val"] == {"value": "nan", "low": "nan", "high": "nan", "n": 64}
    assert found["verdict"] == "cannot tell: training val_mae is nan"
    assert found["next"][0].startswith("Find out where the numbers break")
    assert journal(tmp_path).findings == []


def test_predictions_that_are_nan_are_wrong_and_said_to_be(tmp_path: Path) -> None:
    class Broken(Rigged):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where((x == 2)[:, None], math.nan, super().forward(x))

    found = report(tmp_path, answers(100, 0), answers(100, 0), module=Broken())
    assert found["errors"]["val"]["value"] == 0.25
    (held,) = [m["value"] for m in journal(tmp_path).of_kind("measure") if m["name"] == "bias-variance"]
    assert "25 validation samples have predictions that are not finite; they count as wrong." in held["notes"]


def test_too_few_samples_tell_nothing_yet(tmp_path: Path) -> None:
    found = report(tmp_path, answers(40, 4), answers(30, 5), answers(30, 6), goal=0.05)
    assert found["verdict"].startswith("cannot tell yet: no gap stands out from chance")
    assert "and these samples could show one of" in found["verdict"]
    told = "cannot be seen with the 40 training samples that there are, however many validation samples are evaluated."
    assert found["next"][0].endswith(told), "there are no more training samples to evaluate"
    assert journal(tmp_path).findings == []


def test_a_negative_gap_is_shown_with_its_causes(tmp_path: Path) -> None:
    found = report(tmp_path, answers(1000, 200), answers(1000, 100), goal=0.2)
    assert found["gaps"]["variance"]["value"] == pytest.approx(-0.1)
    assert found["verdict"].startswith("goal reached")
    (held,) = [m["value"] for m in journal(tmp_path).of_kind("measure") if m["name"] == "bias-variance"]
    assert any(
        note.startswith("Overfitting is negative, -10 points: validation data are easier") for note in held["notes"]
    )


def test_exact_intervals_on_request(tmp_path: Path) -> None:
    found = report(tmp_path, answers(100, 7), answers(100, 7), interval="exact")
    expected = binomtest(7, 100).proportion_ci(method="exact")
    assert bounds(found["errors"]["val"]) == pytest.approx((expected.low, expected.high))


def test_groups_make_intervals_wider(tmp_path: Path) -> None:
    class Patients(Rigged):
        def step(self, batch: Any) -> Tensor:
            return super().step((batch["said"], batch["label"]))

    def patients() -> DataLoader[Any]:
        """20 patients of 10 images each: all are wrong, or none."""
        target = torch.arange(200) % 4
        patient = torch.arange(200) // 10
        said = torch.where(patient % 5 == 0, (target + 1) % 4, target)
        rows = [{"said": s, "label": t, "patient": int(p)} for s, t, p in zip(said, target, patient, strict=True)]
        return DataLoader(rows, batch_size=32)

    def width(**arguments: Any) -> float:
        folder = tmp_path / ("grouped" if arguments else "plain")
        error = report(folder, patients(), patients(), module=Patients(), **arguments)["errors"]["val"]
        assert (error["value"], error["n"]) == (0.2, 200)
        return float(error["high"] - error["low"])

    assert width(group="patient") > 2.5 * width(), "sqrt(10) = 3.2 times as wide, by theory"


def test_a_test_in_another_process_takes_up_the_checkpoint(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path / "ckpt", save_last=True)
    trainer = pl.Trainer(
        default_root_dir=tmp_path / "fit", callbacks=[BiasVarianceReport(goal=0.01), checkpoint],
        **{**QUIET, "enable_checkpointing": True, "max_epochs": 2},
    )  # fmt: skip
    trainer.fit(Rigged(), answers(1000, 200), answers(1000, 270))

    fresh = pl.Trainer(default_root_dir=tmp_path / "test", callbacks=[BiasVarianceReport(goal=0.01)], **QUIET)
    fresh.test(Rigged(), answers(1000, 280), ckpt_path=str(tmp_path / "ckpt/last.ckpt"), verbose=False)
    found = read(tmp_path / "test")
    assert list(found["gaps"]) == ["avoidable_bias", "variance", "validation_overfitting"]
    assert found["errors"]["train"] == read(tmp_path / "fit")["errors"]["train"]


def test_the_best_checkpoint_is_what_the_verdict_speaks_of(tmp_path: Path) -> None:
    class Worsens(Rigged):
        """Right in the first epoch, wrong about class 0 later."""

        def forward(self, x: Tensor) -> Tensor:
            late = self.scale < 0.9
            return super().forward(torch.where((x == 0) & late, 1, x))

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    checkpoint = ModelCheckpoint(tmp_path / "ckpt", monitor="val_acc", mode="max")
    callback, module = BiasVarianceReport(), Worsens()
    trainer = pl.Trainer(
        default_root_dir=tmp_path, callbacks=[callback, checkpoint],
        **{**QUIET, "enable_checkpointing": True, "max_epochs": 6},
    )  # fmt: skip
    trainer.fit(module, answers(128, 0), answers(400, 0))
    errors = [moment["errors"]["val"][0] for moment in callback.memory.moments]
    assert errors[0] == 0.0
    assert errors[-1] == 0.25
    held = [m["value"] for m in journal(tmp_path).of_kind("measure") if m["name"] == "bias-variance"][-1]
    assert held["speaks_of"].startswith("the checkpoint epoch=0-step=2.ckpt, of epoch 0")
    assert read(tmp_path)["errors"]["val"]["value"] == 0.0
    assert any("McNemar" in note and "epoch 5 is worse than epoch 0" in note for note in held["notes"])

    trainer.test(module, answers(100, 0), verbose=False)
    assert read(tmp_path)["errors"]["val"]["value"] == 0.25, "the last weights were tested, not the best"
    trainer.test(module, answers(100, 0), ckpt_path="best", verbose=False)
    assert read(tmp_path)["errors"]["val"]["value"] == 0.0
    assert read(tmp_path)["errors"]["test"]["value"] == 0.0


def test_a_resumed_fit_remembers_its_past(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path / "ckpt", save_last=True)
    for epochs, folder in ((2, "first"), (4, "second")):
        callback = BiasVarianceReport()
        trainer = pl.Trainer(
            default_root_dir=tmp_path / folder, callbacks=[callback, checkpoint],
            **{**QUIET, "enable_checkpointing": True, "max_epochs": epochs},
        )  # fmt: skip
        last = str(tmp_path / "ckpt/last.ckpt") if folder == "second" else None
        trainer.fit(Rigged(), answers(64, 4), answers(64, 4), ckpt_path=last)
    assert [moment["epoch"] for moment in callback.memory.moments] == [0, 1, 2, 3]


def test_what_the_classes_explain_is_no_validation_overfitting(tmp_path: Path) -> None:
    """Class 0 is always answered wrongly; the test data have more of it."""

    def skewed(n: int, share: float) -> DataLoader[Any]:
        target = torch.where(torch.arange(n) < share * n, 0, 1 + torch.arange(n) % 3)
        return DataLoader(TensorDataset(torch.where(target == 0, 1, target), target), batch_size=64)

    found = report(tmp_path, skewed(1000, 0.1), skewed(1000, 0.1), skewed(1000, 0.3), goal=0.05)
    assert found["gaps"]["validation_overfitting"]["value"] == pytest.approx(0.2)
    assert "distribution shift: test error is 20 points" in found["verdict"]
    assert "distribution-shift" in [f.rule for f in journal(tmp_path).findings]
    held = [m["value"] for m in journal(tmp_path).of_kind("measure") if m["name"] == "bias-variance"][-1]
    assert (
        "Of the 20 points from validation to test, 20 points come from other shares of classes and 0 points from other "
        "errors within classes." in held["notes"]
    )


def test_a_stream_has_no_training_error_and_says_so(tmp_path: Path) -> None:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(answers(64, 4).dataset)

    found = report(tmp_path, DataLoader(Stream(), batch_size=16), answers(64, 4))
    assert list(found["errors"]) == ["val"]
    held = [m["value"] for m in journal(tmp_path).of_kind("measure") if m["name"] == "bias-variance"][-1]
    assert held["notes"][0] == (
        "The train error is not measured: the training data are a stream that cannot be read twice; give train_loader."
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"goal": math.nan}, "BiasVarianceReport needs goal a finite number, got nan; 0.01 is an error of 1 %."),
        ({"goal": 20}, "BiasVarianceReport needs goal from 0 to 1 for the error, got 20.0; 0.01 is an error of 1 %."),
        (
            {"goal": (5, 3)},
            "BiasVarianceReport needs goal as (mistakes, samples), got (5, 3); 3 of 100 is goal=(3, 100).",
        ),
        (
            {"goal": {"val_mae": 0.3}, "metric": "val_loss"},
            "BiasVarianceReport needs goal and metric to name the same, got 'val_mae' and 'val_loss'; drop metric.",
        ),
        ({"train_dev": 1.0}, "BiasVarianceReport needs train_dev from 0 to below 1, got 1.0; 0.1 is usual."),
        ({"train_samples": 0}, "BiasVarianceReport needs train_samples >= 1, got 0; 10000 is a good start."),
        ({"trials": 0.5}, "BiasVarianceReport needs trials >= 1, got 0.5; 1 is a single run."),
        (
            {"interval": "wald"},
            "BiasVarianceReport needs interval 'wilson' or 'exact', got 'wald'; 'wilson' is usual.",
        ),
        (
            {"adapter": "no.such.path"},
            "BiasVarianceReport needs adapter to be a function or its dotted path, got 'no.such.path'; it gets outputs "
            "and batch, and returns predictions and targets.",
        ),
    ],
)
def test_wrong_arguments_are_told_in_a_sentence(arguments: Any, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        BiasVarianceReport(**arguments)
    assert str(caught.value) == said


def test_a_metric_that_is_never_logged_is_told_in_the_sanity_check(tmp_path: Path) -> None:
    with pytest.raises(PredictionsNotFound) as caught:
        report(tmp_path, values(64, 1.0), values(64, 1.0), module=Regression(), metric="val_mea")
    assert str(caught.value) == (
        "BiasVarianceReport needs validation_step to log 'val_mea', got 'val_mae', 'val_score'; log it there, or name "
        "one of these as metric."
    )


def test_a_test_step_without_predictions_ends_nothing(tmp_path: Path) -> None:
    class Silent(Rigged):
        def test_step(self, batch: Any, batch_idx: int) -> None:
            self.log("test_anything", 1.0)

    class Odd(Dataset[Any]):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> Any:
            return {"thing": torch.tensor(index)}

    found = report(tmp_path, answers(64, 4), answers(64, 4), DataLoader(Odd(), batch_size=4), module=Silent())
    assert list(found["errors"]) == ["train", "val"]


def test_mid_epoch_validations_have_training_errors_of_the_same_weights(tmp_path: Path) -> None:
    callback = BiasVarianceReport()
    delicate(tmp_path, callback, val_check_interval=0.5, max_epochs=2)
    assert [moment["step"] for moment in callback.memory.moments] == [3, 6, 9, 12]
    assert all({"train", "val"} <= set(moment["errors"]) for moment in callback.memory.moments)


def test_the_training_error_may_be_measured_more_rarely_but_at_the_end(tmp_path: Path) -> None:
    callback = BiasVarianceReport(every_n_epochs=3)
    report(tmp_path, answers(64, 4), answers(64, 4), callback=callback, trainer={"max_epochs": 6})
    assert ["train" in moment["errors"] for moment in callback.memory.moments] == [
        True, False, False, True, False, True,
    ]  # fmt: skip


def test_the_training_error_may_be_measured_as_cost_allows(tmp_path: Path) -> None:
    callback = BiasVarianceReport(every_n_epochs="auto", train_samples=20)
    report(tmp_path, answers(64, 4), answers(64, 4), callback=callback, trainer={"max_epochs": 12})
    measured = [m["epoch"] for m in callback.memory.moments if "train" in m["errors"]]
    assert measured == [3, 6, 9, 11], "20 of 64 samples: three or four epochs pay for one look; the last is free"


def test_averaged_weights_are_measured_as_they_are_validated(tmp_path: Path) -> None:
    from lightning.pytorch.callbacks import WeightAveraging

    class Drifts(Rigged):
        """Wrong about class 0 once its parameter is below 0.5; the average gets there later."""

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(torch.where((x == 0) & (self.scale < 0.5), 1, x))

    for order in (0, 1):
        callback = BiasVarianceReport()
        averaging = WeightAveraging()
        trainer = pl.Trainer(
            default_root_dir=tmp_path / str(order), max_epochs=8,
            callbacks=[callback, averaging] if order else [averaging, callback], **QUIET,
        )  # fmt: skip
        trainer.fit(Drifts(), answers(320, 0), answers(320, 0))
        for moment in callback.memory.moments:
            assert moment["errors"]["train"][0] == moment["errors"]["val"][0], "both of the averaged weights"


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_other_precisions(precision: str, tmp_path: Path) -> None:
    found = report(tmp_path, answers(64, 8), answers(64, 8), answers(64, 8), trainer={"precision": precision})
    assert {name: error["value"] for name, error in found["errors"].items()} == {
        "train": 0.125,
        "val": 0.125,
        "test": 0.125,
    }
    assert not journal(tmp_path).of_kind("trouble")


def test_manual_optimisation_and_no_validation_step(tmp_path: Path) -> None:
    class Manual(Rigged):
        validation_step = None

        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            loss = self.step(batch)
            self.manual_backward(loss)
            optimizer.step()

    alone, watched = Manual(), Manual()
    found = report(tmp_path, answers(64, 8), module=watched)
    pl.seed_everything(5, verbose=False)
    pl.Trainer(max_epochs=1, **QUIET).fit(alone, answers(64, 8))
    assert differing(alone, watched) == []
    assert found["errors"]["train"]["value"] == 0.125


@pytest.mark.parametrize(
    "options",
    [
        {"fast_dev_run": True},
        {"overfit_batches": 2},
        {"limit_val_batches": 0},
        {"barebones": True, "logger": None, "enable_checkpointing": None, "enable_progress_bar": None,
         "enable_model_summary": None},
        {"accumulate_grad_batches": 4, "gradient_clip_val": 0.1},
        {"check_val_every_n_epoch": 3, "max_epochs": 4},
        {"reload_dataloaders_every_n_epochs": 1, "max_epochs": 3},
    ],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
def test_other_ways_to_run(options: Any, tmp_path: Path) -> None:
    callback = BiasVarianceReport(train_dev=0.25)
    report(tmp_path, answers(64, 8, shuffle=True, size=8), answers(64, 8, size=8), callback=callback, trainer=options)
    assert not journal(tmp_path).of_kind("trouble")
    assert callback.looks.notes == []
    moments = callback.memory.moments
    assert [m for m in moments if "train" not in m["errors"] or "train_dev" not in m["errors"]] == []
    assert [moment["errors"]["train"][3] for moment in moments] == [48] * len(moments)
    assert len(moments) == {"reload_dataloaders_every_n_epochs": 3}.get(next(iter(options)), 1)


def test_workers_and_a_data_module(tmp_path: Path) -> None:
    class Data(pl.LightningDataModule):
        def loader(self, n: int, wrong: int) -> DataLoader[Any]:
            return DataLoader(answers(n, wrong).dataset, batch_size=16, num_workers=1, persistent_workers=True)

        def train_dataloader(self) -> Any:
            return self.loader(64, 8)

        def val_dataloader(self) -> Any:
            return self.loader(48, 6)

        def test_dataloader(self) -> Any:
            return self.loader(32, 4)

    trainer = pl.Trainer(default_root_dir=tmp_path, callbacks=[BiasVarianceReport()], max_epochs=2, **QUIET)
    module, data = Rigged(), Data()
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data, verbose=False)
    assert {name: e["n"] for name, e in read(tmp_path)["errors"].items()} == {"train": 64, "val": 48, "test": 32}


def test_an_exception_leaves_what_was_known_until_then(tmp_path: Path) -> None:
    class Breaks(Rigged):
        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 2:
                raise RuntimeError("the user's own")

    with pytest.raises(RuntimeError, match="the user's own"):
        report(tmp_path, answers(1000, 200), answers(1000, 270), module=Breaks(), goal=0.01, trainer={"max_epochs": 5})
    assert read(tmp_path)["verdict"].startswith("underfitting")
    assert [end["status"] for end in journal(tmp_path).of_kind("end")] == ["exception"]
