"""What the first batch cannot tell is told by a later one, and taken back if need be."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from evaluation.erring import Says, loader, random_answers, run
from monitors.breaking import QUIET
from torch import Tensor

from lightning_debugkit import ErrorAnalysis, read_journal
from lightning_debugkit.evaluation.predictions.reader import PredictionsNotFound

pytestmark = pytest.mark.filterwarnings("ignore")


class OfValues(Says):
    def loss(self, batch: Any) -> Tensor:
        return F.mse_loss(self(batch[0])[:, 0], batch[1])


class Returned(Says):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return {"preds": self(batch[0])[:, 0], "target": batch[1]}


def rain(dry: int = 64) -> tuple[Tensor, Tensor]:
    """Many days of none at first."""
    generator = torch.Generator().manual_seed(0)
    values = torch.cat([torch.zeros(dry), 5 * torch.rand(100, generator=generator)])
    return torch.randn(len(values), 3, generator=generator), values


@pytest.mark.parametrize("module", [OfValues, Returned])
def test_values_that_are_zero_at_first_are_no_classes(module: type[Says], tmp_path: Path) -> None:
    with pytest.raises(PredictionsNotFound, match="a regression, whose error BiasVarianceReport measures"):
        run(tmp_path, loader(*rain(), size=32), module())
    assert not (tmp_path / "debugkit" / "errors.json").exists()


def test_values_after_the_sanity_check_are_told_once_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callback = ErrorAnalysis(training_dynamics=True)
    trainer = pl.Trainer(default_root_dir=tmp_path, callbacks=[callback], max_epochs=2, **QUIET)
    with caplog.at_level(logging.WARNING, "lightning_debugkit"):
        trainer.fit(OfValues(), loader(*rain(), size=16), loader(*rain(), size=16))
    told = [record.message for record in caplog.records if "a regression" in record.message]
    assert len(told) == 1
    assert not (tmp_path / "debugkit" / "errors.json").exists()


def test_a_yes_or_no_by_squared_error_is_counted(tmp_path: Path) -> None:
    scores, target = random_answers(200, 2)
    given = target.sort().values.float()  # the first batches are all of one class
    held = run(tmp_path, loader(scores.softmax(1)[:, 1:], given), OfValues())
    assert (held["task"], held["n"]) == ("binary", 200)


class Probable(Says):
    """Answers probabilities, in whatever digits."""

    def __init__(self, change: Any, name: str = "preds") -> None:
        super().__init__()
        self.change, self.name = change, name

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return {self.name: self.change(self(batch[0]).softmax(1)), "target": batch[1]}


def bins(held: Any) -> list[Any]:
    return [(row["n"], row["confidence"]) for row in held["calibration"]["bins"]]


@pytest.mark.parametrize(
    "change", [Tensor.bfloat16, Tensor.half, lambda p: p.bfloat16().float()], ids=["bfloat16", "half", "rounded"]
)
def test_probabilities_of_few_digits_are_probabilities(change: Any, tmp_path: Path) -> None:
    scores, target = random_answers(500, 20, skill=6.0)
    exact = run(tmp_path / "exact", loader(scores, target, size=100), Probable(lambda p: p))
    held = run(tmp_path / "short", loader(scores, target, size=100), Probable(change))
    assert held["top_losses"][0]["loss"] == pytest.approx(exact["top_losses"][0]["loss"], rel=0.05)
    assert held["calibration"]["ece"] == pytest.approx(exact["calibration"]["ece"], abs=0.01)


def test_what_is_called_probabilities_need_not_sum_to_one(tmp_path: Path) -> None:
    scores, target = random_answers(200, 5)
    held = run(tmp_path, loader(scores, target), Probable(lambda p: 0.9 * p, "probs"))
    assert held["top_losses"][0]["probability"] == pytest.approx(
        0.9 * float(scores.softmax(1)[torch.arange(200), target].min())
    )


@pytest.mark.parametrize("broken", [1, 16, 40])
def test_samples_that_are_broken_do_not_tell_the_form(broken: int, tmp_path: Path) -> None:
    scores, target = random_answers(200, 5)
    scores[:broken] = torch.nan
    held = run(tmp_path, loader(scores, target, size=16), Probable(lambda p: p))
    own = scores.softmax(1)[torch.arange(200), target][broken:]
    assert held["top_losses"][0]["loss"] == pytest.approx(float(-own.min().log()), rel=1e-5)
    assert (held["n"], held["broken"]) == (200 - broken, broken)


def test_logits_after_a_batch_that_is_all_broken_are_logits(tmp_path: Path) -> None:
    scores, target = random_answers(200, 5)
    scores[:16] = torch.nan
    held = run(tmp_path, loader(scores, target, size=16))
    losses = F.cross_entropy(scores[16:], target[16:], reduction="none")
    assert held["top_losses"][0]["loss"] == pytest.approx(float(losses.max()), rel=1e-5)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_surest_samples_are_in_the_calibration(classes: int, tmp_path: Path) -> None:
    """A mean of ten views is above 1 by rounding."""
    scores, target = random_answers(400, classes, skill=20.0)

    def mean(p: Tensor) -> Tensor:
        views = torch.stack([0.1 * p] * 10).sum(0)
        return views if classes > 2 else views[:, 1]

    above = mean(scores.softmax(1)) > 1
    assert above.any()
    held = run(tmp_path, loader(scores, target, size=40), Probable(mean))
    assert sum(row["n"] for row in held["calibration"]["bins"]) == 400
    assert held["accuracy"]["value"] > 0.99
    assert not any("left out of the calibration" in note for note in held["notes"])


class OfTokens(Says):
    def loss(self, batch: Any) -> Tensor:
        return F.cross_entropy(self(batch[0]).transpose(1, 2), batch[1])


def answers_at_padding(kind: str) -> tuple[Tensor, Tensor, type[Says]]:
    scores, target = random_answers(400, 5)
    is_padding = torch.arange(400) % 4 == 3
    if kind == "labels":
        target = torch.randint(0, 2, (100, 5)).float()
        scores = scores[:100]
        scores[:, 2], target[:, 2] = torch.nan, -100
        return scores, target, Says
    scores[is_padding], target[is_padding] = torch.nan, -100
    if kind == "samples":
        return scores, target, Says
    return scores.reshape(100, 4, 5), target.reshape(100, 4), OfTokens


@pytest.mark.parametrize(("kind", "counted"), [("samples", 300), ("tokens", 300), ("labels", 400)])
def test_scores_that_nobody_asked_for_may_be_anything(kind: str, counted: int, tmp_path: Path) -> None:
    scores, target, module = answers_at_padding(kind)
    if kind == "labels":
        held = run(tmp_path, loader(scores, target), Both(), task="multilabel")
    else:
        held = run(tmp_path, loader(scores, target), module())
    assert (held["n"], held["broken"]) == (counted, 0)
    assert not [each.rule for each in read_journal(tmp_path / "debugkit").findings if each.rule == "nonfinite-scores"]


class Both(Says):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return {"logits": self(batch[0]), "target": batch[1]}


class ReturnsAll(OfTokens):
    """Returns what the error recommends, beside a loss that ignores padding."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        scores = self(batch[0]).transpose(1, 2)
        loss = F.cross_entropy(scores, batch[1], ignore_index=0)
        return {"loss": loss, "logits": scores, "target": batch[1]}


def test_padding_that_the_loss_ignores_does_not_count_where_the_step_returns_its_scores(tmp_path: Path) -> None:
    scores, target = random_answers(400, 6)
    held = run(tmp_path, loader(scores.reshape(100, 4, 6), target.reshape(100, 4)), ReturnsAll())
    assert held["n"] == int((target != 0).sum())
    assert any("The losses of the samples are verified" in note for note in held["notes"])


class ReturnsProbabilities(Says):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        scores = self(batch[0])[:, 0]
        loss = F.binary_cross_entropy_with_logits(scores, batch[1].float())
        return {"loss": loss, "preds": scores.sigmoid(), "target": batch[1].float()}


def test_the_loss_tells_nothing_of_other_scores_than_its_own(tmp_path: Path) -> None:
    scores, target = random_answers(200, 2)
    held = run(tmp_path, loader(scores[:, 1:] - scores[:, :1], target), ReturnsProbabilities())
    assert held["accuracy"]["value"] == pytest.approx(float((scores.argmax(1) == target).float().mean()))


class Numbers(Says):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return {"preds": batch[0], "target": batch[1]}


@pytest.mark.parametrize("shape", [(200,), (50, 4)])
def test_identities_are_no_classes(shape: tuple[int, ...], tmp_path: Path) -> None:
    numbers = torch.randint(0, 4, shape) * 21_000_000
    with pytest.raises(PredictionsNotFound, match=r"numbers up to 63,000,000, which are identities or values"):
        run(tmp_path, loader(numbers, numbers.roll(1)), Numbers())


@pytest.mark.parametrize("shape", [(200,), (50, 4)])
def test_a_number_that_is_no_class_comes_late_and_asks_for_no_memory(shape: tuple[int, ...], tmp_path: Path) -> None:
    target = torch.arange(200).reshape(shape) % 4
    predicted = target.clone()
    target.view(-1)[-1], predicted.view(-1)[-2] = 2**40, 2**40
    held = run(tmp_path, loader(predicted, target), Numbers())
    assert held["classes"] == ["0", "1", "2", "3"]
    assert held["n"] == 198
