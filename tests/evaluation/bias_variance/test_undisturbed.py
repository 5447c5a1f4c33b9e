"""A training that does not know it is watched, however it is run."""

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
from monitors.breaking import QUIET, differing, journal
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lightning_debugkit import BiasVarianceReport

pytestmark = pytest.mark.filterwarnings("ignore")


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


@pytest.mark.skipif(not hasattr(pl.callbacks, "WeightAveraging"), reason="Lightning 2.6 has it")
def test_averaged_weights_are_measured_as_they_are_validated(tmp_path: Path) -> None:
    class Drifts(Rigged):
        """Wrong about class 0 once its parameter is below 0.5; the average gets there later."""

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(torch.where((x == 0) & (self.scale < 0.5), 1, x))

    for order in (0, 1):
        callback = BiasVarianceReport()
        averaging = pl.callbacks.WeightAveraging()
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
