"""What is the user's own may raise or be something else: the analysis goes on, and says what it lacks."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from evaluation.erring import Says, loader, random_answers, read, run
from monitors.breaking import QUIET
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_debugkit import ErrorAnalysis, GradientAnomalyDetector, read_journal
from lightning_debugkit.core.callback import DebugCallback
from lightning_debugkit.evaluation.error_analysis.errors_json import ErrorAnalysisResult
from lightning_debugkit.evaluation.error_analysis.evaluation_pass import EvaluationPass

pytestmark = pytest.mark.filterwarnings("ignore")


class Raising(pl.LightningDataModule):
    @property
    def class_names(self) -> list[str]:
        raise RuntimeError("call setup first")

    def val_dataloader(self) -> Any:
        return loader(*random_answers(60, 3))


def test_a_property_that_raises_costs_nothing_but_its_names(tmp_path: Path) -> None:
    trainer = pl.Trainer(default_root_dir=tmp_path, callbacks=[ErrorAnalysis()], **QUIET)
    trainer.validate(Says(), datamodule=Raising(), verbose=False)
    held = read(tmp_path)
    assert (held["classes"], held["n"]) == (["0", "1", "2"], 60)


class Stream(IterableDataset[Any]):
    """Gives its samples an index from ``first`` on."""

    def __init__(self, first: int = 0) -> None:
        self.first = first

    def __iter__(self) -> Any:
        logits, target = random_answers(50, 3)
        for at in range(50):
            yield {"x": logits[at], "label": target[at], "sample_id": self.first + at}


class Endless(Stream):
    def __len__(self) -> int:
        raise TypeError("no length")


class Sized(Stream):
    def __len__(self) -> int:
        return 50


class OfKeys(Says):
    def loss(self, batch: Any) -> Any:
        return torch.nn.functional.cross_entropy(self(batch["x"]), batch["label"])


def test_a_length_that_raises_costs_no_batch_of_the_next_loader(tmp_path: Path) -> None:
    held = run(tmp_path, [DataLoader(Endless(), 10), DataLoader(Stream(), 10)], OfKeys())
    assert held["n"] == 100


def test_an_index_that_a_batch_gives_is_told_as_it_is_in_the_second_loader_too(tmp_path: Path) -> None:
    held = run(tmp_path, [DataLoader(Sized(), 10), DataLoader(Sized(5000), 10)], OfKeys())
    known = {*range(50), *range(5000, 5050)}
    assert held["top_losses"]
    assert {row["index"] for row in held["top_losses"]} <= known


def test_loaders_are_counted_through(tmp_path: Path) -> None:
    logits, target = random_answers(40, 3)
    held = run(tmp_path, [loader(-logits, target), loader(-logits, target)])
    assert {row["index"] for row in held["top_losses"]} & set(range(40, 80))
    wrong = {row["index"] for row in held["top_losses"]}
    assert all(int(target[index % 40]) != int((-logits)[index % 40].argmax()) for index in wrong)


def test_batches_that_could_not_be_taken_up_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = EvaluationPass._columns

    def fails(self: EvaluationPass, batch: Any, *args: Any) -> Any:
        if int(batch[1][0]) == 0:
            raise KeyError("unknown")
        return columns(self, batch, *args)

    monkeypatch.setattr(EvaluationPass, "_columns", fails)
    logits, _ = random_answers(40, 3)
    trainer = pl.Trainer(default_root_dir=tmp_path, callbacks=[ErrorAnalysis()], **QUIET)
    trainer.validate(Says(), loader(logits, torch.arange(4).repeat_interleave(10) % 3, size=10), verbose=False)
    journal = read_journal(tmp_path / "debugkit")
    assert journal.of_kind("trouble")
    held = json.loads((tmp_path / "debugkit" / "errors.json").read_text())
    assert held["n"] == 20
    assert "2 of 4 batches could not be taken up, and are left out: KeyError: 'unknown'." in held["notes"]


class WithFeatures(TensorDataset):
    features: Any = None


@pytest.mark.parametrize(
    ("features", "classes"),
    [
        (["age", "sex", "bmi"], ["0", "1", "2"]),
        ({"age": 0, "sex": 1, "bmi": 2}, ["0", "1", "2"]),
        ({"label": type("ClassLabel", (), {"names": ["ant", "bee", "cat"]})()}, ["ant", "bee", "cat"]),
    ],
)
def test_features_name_classes_only_by_their_label(features: Any, classes: list[str], tmp_path: Path) -> None:
    data = WithFeatures(*random_answers(60, 3))
    data.features = features
    assert run(tmp_path, DataLoader(data, 20))["classes"] == classes


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "exception"])
@pytest.mark.parametrize("is_first", [False, True])
def test_a_fault_of_the_analysis_costs_no_report(
    stage: str, is_first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Any) -> None:
        raise RuntimeError("no analysis")

    class Stops(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            if stage == "exception" and trainer.global_step == 6:
                raise KeyError("of the user's own")

    rendered: list[int] = []
    monkeypatch.setattr(ErrorAnalysisResult, "__post_init__", fails)
    monkeypatch.setattr(DebugCallback, "_render", lambda self, run: rendered.append(1))
    kit: list[pl.Callback] = [GradientAnomalyDetector(), ErrorAnalysis()]
    kit = [*(kit[::-1] if is_first else kit), Stops()]
    trainer = pl.Trainer(default_root_dir=tmp_path, callbacks=kit, max_epochs=2, **QUIET)
    data = loader(*random_answers(60, 3))
    if stage in ("fit", "exception"):
        with pytest.raises(KeyError) if stage == "exception" else contextlib.nullcontext():
            trainer.fit(Says(), data, data)
    else:
        (trainer.validate if stage == "validate" else trainer.test)(Says(), data, verbose=False)
    journal = read_journal(tmp_path / "debugkit")
    assert "RuntimeError: no analysis" in {row["error"] for row in journal.of_kind("trouble")}
    assert len(journal.of_kind("end")) == 1
    assert rendered == [1]


class Skips(Says):
    """The fourth batch of a test, and of the first epoch, has nothing to say."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        if batch_idx == 3 and (self.trainer.testing or self.trainer.current_epoch == 0):
            return None
        return {"logits": self(batch[0]), "target": batch[1]}

    test_step = validation_step


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_a_batch_without_predictions_is_left_out(stage: str, tmp_path: Path) -> None:
    logits, target = random_answers(100, 3)
    held = run(tmp_path, loader(logits, target, size=20), Skips(), stage)
    assert held["n"] == 80
    assert "1 of 5 batches had no predictions and targets: they are left out." in held["notes"]
    wrong = (logits.argmax(1) != target).nonzero()[:, 0].tolist()
    named = (tmp_path / "debugkit" / ("misclassified-test.csv" if stage == "test" else "misclassified.csv")).read_text()
    assert sorted(int(row.split(",")[0]) for row in named.splitlines()[1:]) == [i for i in wrong if not 60 <= i < 80]


def test_later_epochs_count_whole_after_a_batch_without_predictions(tmp_path: Path) -> None:
    data = loader(*random_answers(100, 3), size=20)
    pl.Trainer(default_root_dir=tmp_path, callbacks=[ErrorAnalysis()], max_epochs=2, **QUIET).fit(Skips(), data, data)
    held = read(tmp_path)
    assert (held["n"], [row["epoch"] for row in held["history"]]) == (100, [0, 1])
    assert not any("left out" in note for note in held["notes"])


def test_a_batch_that_could_not_be_taken_up_leaves_the_names_of_the_next_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_batch = EvaluationPass._read

    def fails(self: EvaluationPass, step: str, module: Any, outputs: Any, batch: Any, rerun: Any) -> Any:
        if int(batch[1][0]) == 1:
            raise KeyError("unknown")
        return read_batch(self, step, module, outputs, batch, rerun)

    monkeypatch.setattr(EvaluationPass, "_read", fails)
    target = torch.arange(4).repeat_interleave(10) % 3
    logits = torch.nn.functional.one_hot((target + (torch.arange(40) % 5 == 0)) % 3, 3).float()
    trainer = pl.Trainer(default_root_dir=tmp_path, callbacks=[ErrorAnalysis()], **QUIET)
    trainer.validate(Says(), loader(logits, target, size=10), verbose=False)
    rows = (tmp_path / "debugkit" / "misclassified.csv").read_text().splitlines()[1:]
    assert sorted(int(row.split(",")[0]) for row in rows) == [0, 5, 20, 25, 30, 35]
