"""What the model confuses is counted to the last sample, and every sample has its name."""

from __future__ import annotations

import csv
import math
from collections import Counter
from pathlib import Path
from typing import Any

import lightning
import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from evaluation.erring import Says, loader, random_answers, read, run, table
from evaluation.error_analysis.counted import losses
from monitors.breaking import QUIET
from packaging.version import Version
from scipy.stats import binomtest
from sklearn.metrics import (
    balanced_accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    precision_recall_fscore_support,
)
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler, TensorDataset

from lightning_debugkit import BiasVarianceReport, ErrorAnalysis, read_journal

pytestmark = pytest.mark.filterwarnings("ignore")


ONE_AND_TWO = [
    pytest.param({}, id="alone"),
    pytest.param({"strategy": "ddp_fork", "devices": 2}, id="two", marks=pytest.mark.timeout(120)),
]


@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize("trainer", ONE_AND_TWO)
def test_counts_are_those_of_scikit_learn(trainer: Any, tmp_path: Path) -> None:
    logits, target = random_answers(1003, 7)
    held = run(tmp_path, loader(logits, target), trainer=trainer)
    predicted = logits.argmax(1)
    assert table(held).tolist() == confusion_matrix(target, predicted).tolist()
    right = int((predicted == target).sum())
    low, high = binomtest(right, 1003).proportion_ci(method="wilson")
    assert held["accuracy"] == {
        "value": right / 1003, "low": pytest.approx(low), "high": pytest.approx(high)
    }  # fmt: skip
    assert held["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(target, predicted))
    assert held["kappa"] == pytest.approx(cohen_kappa_score(target, predicted))
    assert held["baseline_accuracy"] == pytest.approx(int(target.bincount().max()) / 1003)
    precision, recall, f1, support = precision_recall_fscore_support(target, predicted)
    for name, expected in (("precision", precision), ("recall", recall), ("f1", f1), ("support", support)):
        assert [row[name] for row in held["per_class"]] == pytest.approx(expected)


def test_pairs_are_in_the_order_of_fastai(tmp_path: Path) -> None:
    """Its expression: off the diagonal, by count, equal ones row by row."""
    logits, target = random_answers(400, 6, seed=1)
    held = run(tmp_path, loader(logits, target))
    matrix = confusion_matrix(target, logits.argmax(1))
    np.fill_diagonal(matrix, 0)
    found = [(int(i), int(j), int(matrix[i, j])) for i, j in zip(*np.where(matrix >= 1), strict=True)]
    expected = sorted(found, key=lambda each: each[2], reverse=True)
    assert [(row["target"], row["predicted"], row["count"]) for row in held["most_confused"]] == expected
    support = target.bincount()
    for row in held["most_confused"]:
        n = int(support[row["target"]])
        low, high = binomtest(row["count"], n).proportion_ci(method="wilson")
        assert (row["share"], row["low"], row["high"]) == pytest.approx((row["count"] / n, low, high))
        assert row["reverse"] == int(matrix[row["predicted"], row["target"]])


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize("n", [101, 3, 1])
@pytest.mark.parametrize("stage", ["validate", "test"])
def test_two_ranks_leave_what_one_leaves(n: int, stage: str, tmp_path: Path) -> None:
    """Batches are uneven, padded samples count once, and a rank may have nothing of its own."""
    logits, target = random_answers(n, 4, seed=2)
    camera = torch.arange(n) % 3
    alone = run(tmp_path / "alone", loader(logits, target, camera), stage=stage)
    both = run(
        tmp_path / "both", loader(logits, target, camera), stage=stage, trainer={"strategy": "ddp_fork", "devices": 2}
    )
    assert alone["n"] == both["n"] == n
    for key, value in alone.items():
        assert both[key] == rounded(value), key
    one, other = (
        (tmp_path / name / "debugkit" / f"misclassified{'-test' if stage == 'test' else ''}.csv")
        for name in ("alone", "both")
    )
    assert one.exists() == other.exists()
    assert not one.exists() or one.read_text() == other.read_text()


def rounded(value: Any) -> Any:
    """Single precision may differ in its last digit with the size of a batch."""
    if isinstance(value, float):
        return pytest.approx(value, rel=1e-5, abs=1e-7)
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return {key: rounded(item) for key, item in value.items()} if isinstance(value, dict) else value


def shuffled(logits: Tensor, target: Tensor) -> DataLoader[Any]:
    return loader(logits, target, shuffle=True)


def by_a_sampler(logits: Tensor, target: Tensor) -> DataLoader[Any]:
    return loader(logits, target, sampler=SubsetRandomSampler(torch.arange(0, len(target), 2)))


def by_batches(logits: Tensor, target: Tensor) -> DataLoader[Any]:
    batches = [[5, 1, 2], [40, 7], list(range(60, 90))]
    return DataLoader(TensorDataset(logits, target), batch_sampler=batches)


def by_workers(logits: Tensor, target: Tensor) -> DataLoader[Any]:
    return loader(logits, target, shuffle=True, num_workers=2)


asks_for_its_sampler = pytest.mark.skipif(
    Version(lightning.__version__) < Version("2.5.1"), reason="Lightning 2.5.0 asks any batch sampler for its sampler"
)


@pytest.mark.parametrize(
    "kind", [loader, shuffled, by_a_sampler, pytest.param(by_batches, marks=asks_for_its_sampler), by_workers]
)
def test_samples_keep_their_index_whatever_the_sampler(kind: Any, tmp_path: Path) -> None:
    logits, target = random_answers(120, 5, seed=3)
    source = kind(logits, target)
    before = source.batch_sampler
    trainer = pl.Trainer(default_root_dir=tmp_path, max_epochs=2, callbacks=[ErrorAnalysis()], **QUIET)
    trainer.fit(Says(), loader(logits, target), source)
    held = read(tmp_path)
    assert source.batch_sampler is before, "the user's loader is as it was"
    own = losses(logits, target)
    assert held["top_losses"]
    for row in held["top_losses"]:
        at = row["index"]
        assert row["loss"] == pytest.approx(float(own[at]), rel=1e-4)
        assert (row["target"], row["predicted"]) == (int(target[at]), int(logits[at].argmax()))
        assert row["probability"] == pytest.approx(float(logits[at].softmax(0)[target[at]]), rel=1e-4)
    if kind is loader:
        assert [row["index"] for row in held["top_losses"]] == own.argsort(descending=True)[:25].tolist()
    for pair in held["most_confused"]:
        for at in pair["examples"]:
            assert (int(target[at]), int(logits[at].argmax())) == (pair["target"], pair["predicted"])


class Stream(IterableDataset[Any]):
    def __init__(self, logits: Tensor, target: Tensor) -> None:
        self.pairs = list(zip(logits, target, strict=True))

    def __iter__(self) -> Any:
        return iter(self.pairs)


def test_a_stream_is_counted_without_indices(tmp_path: Path) -> None:
    logits, target = random_answers(50, 3)
    held = run(tmp_path, DataLoader(Stream(logits, target), batch_size=8))
    assert table(held).tolist() == confusion_matrix(target, logits.argmax(1)).tolist()
    assert {row["index"] for row in held["top_losses"]} == {-1}
    assert (
        "Dataset indices are not known: samples cannot be named or drawn. Put an index into the batch." in held["notes"]
    )


def test_an_index_in_the_batch_names_the_samples_of_a_stream(tmp_path: Path) -> None:
    class Indexed(Says):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            logits = self(batch[0])
            return {"loss": F.cross_entropy(logits, batch[1]), "logits": logits, "index": batch[2]}

    logits, target = random_answers(50, 3)
    stream = Stream(logits, target)
    stream.pairs = [(x, y, 1000 + at) for at, (x, y) in enumerate(stream.pairs)]
    held = run(tmp_path, DataLoader(stream, batch_size=8), Indexed())
    expected = losses(logits, target).argsort(descending=True)[:25] + 1000
    assert [row["index"] for row in held["top_losses"]] == expected.tolist()


def test_loaders_are_counted_through_one_after_another(tmp_path: Path) -> None:
    first, second = random_answers(40, 3, seed=1), random_answers(30, 3, seed=2)
    loaders = [loader(*first), loader(*second, shuffle=True)]
    held = run(tmp_path / "all", loaders)
    own = torch.cat([losses(*first), losses(*second)])
    assert held["n"] == 70
    assert [row["index"] for row in held["top_losses"]] == own.argsort(descending=True)[:25].tolist()
    only = run(tmp_path / "one", loaders, loaders=[1])
    assert only["n"] == 30
    assert min(row["index"] for row in only["top_losses"]) >= 40


def test_a_table_holds_every_sample_that_is_wrong(tmp_path: Path) -> None:
    logits, target = random_answers(90, 3, seed=5)
    run(tmp_path, loader(logits, target, torch.arange(90) / 4), class_names=["a", "b", "c"])
    with (tmp_path / "debugkit/misclassified.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    wrong = (logits.argmax(1) != target).nonzero()[:, 0].tolist()
    assert sorted(int(row["index"]) for row in rows) == wrong
    own = losses(logits, target)
    for row in rows:
        at = int(row["index"])
        assert row["target_name"] == "abc"[int(target[at])]
        assert row["predicted"] == str(int(logits[at].argmax()))
        assert float(row["loss"]) == pytest.approx(float(own[at]), rel=1e-4)
        assert float(row["batch[2]"]) == at / 4
    assert [float(row["loss"]) for row in rows] == sorted((float(row["loss"]) for row in rows), reverse=True)


def test_calibration_is_that_of_the_probabilities(tmp_path: Path) -> None:
    logits, target = random_answers(500, 4, seed=6)
    held = run(tmp_path, loader(logits, target))["calibration"]
    confidence, right = logits.softmax(1).amax(1), logits.argmax(1) == target
    place = Counter((confidence * 15).ceil().long().sub(1).tolist())
    assert [row["n"] for row in held["bins"]] == [place[at] for at in sorted(place)]
    gaps = [abs(row["confidence"] - row["accuracy"]) * row["n"] for row in held["bins"]]
    assert held["ece"] == pytest.approx(sum(gaps) / 500, rel=1e-4)
    assert sum(row["accuracy"] * row["n"] for row in held["bins"]) == pytest.approx(int(right.sum()))
    assert held["ece_low"] <= held["ece"] <= held["ece_high"]


@pytest.mark.parametrize("way", ["loss", "sum", "weighted", "broken", "masked", "none"])
def test_the_loss_of_the_samples_is_checked_against_the_step(way: str, tmp_path: Path) -> None:
    class Loses(Says):
        def loss(self, batch: Any) -> Any:
            weight = torch.tensor([1.0, 5, 1]) if way == "weighted" else None
            reduction = "sum" if way == "sum" else "mean"
            return F.cross_entropy(self(batch[0]), batch[1], weight=weight, reduction=reduction)

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            loss = self.loss(batch)
            return None if way == "none" else loss

    logits, target = random_answers(60, 3)
    if way == "broken":
        logits[40] = torch.nan
    elif way == "masked":
        logits[:, 1] = -torch.inf
    notes = run(tmp_path, loader(logits, target), Loses())["notes"]
    not_finite = "The losses of the samples are not verified: some are not finite, or the step's own loss is not."
    told = {
        "loss": "The losses of the samples are verified: their mean is the loss that the step returns.",
        "sum": "The losses of the samples are verified: their sum is the loss that the step returns.",
        "broken": not_finite,
        "masked": not_finite,
        "weighted": "The step's own loss is another (weights of classes, label smoothing, a further term): "
        "samples are ranked by plain cross entropy.",
        "none": "The step returns no loss to compare with: the loss of a sample is plain cross entropy.",
    }
    assert {text for text in told.values() if text in notes} == {told[way]}


@pytest.mark.parametrize("order", [1, -1])
def test_two_that_listen_do_not_disturb_each_other(order: int, tmp_path: Path) -> None:
    """Both watch the loss of the same step, and one of them runs training data through it in between."""
    from torch.overrides import _get_current_function_mode_stack

    class KnowsOnlyItsLoss(Says):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.log("val_loss", F.cross_entropy(batch[0] + self.offset, batch[1]))

    logits, target = random_answers(200, 3)
    callbacks = [ErrorAnalysis(), BiasVarianceReport()][::order]
    trainer = pl.Trainer(default_root_dir=tmp_path, max_epochs=2, callbacks=callbacks, **QUIET)
    module = KnowsOnlyItsLoss()
    trainer.fit(module, loader(logits, target), loader(logits, target))
    held = read(tmp_path)
    report = next(callback for callback in callbacks if isinstance(callback, BiasVarianceReport))
    assert held["n"] == 200
    (moment,) = report.memory.moments  # the weights never change
    wrong = 1 - held["accuracy"]["value"]
    assert {name: error[0] for name, error in moment["errors"].items()} == pytest.approx({"val": wrong, "train": wrong})
    assert _get_current_function_mode_stack() == []
    assert not module._forward_hooks


def test_the_test_leaves_a_file_of_its_own(tmp_path: Path) -> None:
    val, test = random_answers(40, 3, seed=1), random_answers(50, 3, seed=2)
    trainer = pl.Trainer(default_root_dir=tmp_path, max_epochs=1, callbacks=[ErrorAnalysis()], **QUIET)
    module = Says()
    trainer.fit(module, loader(*val), loader(*val))
    trainer.test(module, loader(*test), verbose=False)
    assert (read(tmp_path)["n"], read(tmp_path, "test")["n"]) == (40, 50)
    told = [event for event in read_journal(tmp_path / "debugkit").of_kind("artifact") if event.get("what")]
    assert [(event["stage"], event["path"]) for event in told][-2:] == [
        ("validate", "errors.json"),
        ("test", "errors-test.json"),
    ]
    assert math.isclose(told[-1]["accuracy"], read(tmp_path, "test")["accuracy"]["value"])
