"""Targets as shares, softened, of values, or of no class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from evaluation.erring import Says, digits, loader, random_answers, run, table
from sklearn.metrics import confusion_matrix
from torch import Tensor

from lightning_debugkit.evaluation.predictions.reader import PredictionsNotFound

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("form", ["one hot", "shares"])
def test_targets_as_shares_of_classes(form: str, tmp_path: Path) -> None:
    logits, target = random_answers(50, 4)
    shares = F.one_hot(target, 4).float()
    shares = shares if form == "one hot" else 0.9 * shares + 0.025
    held = run(tmp_path, loader(logits, shares))
    assert table(held).tolist() == confusion_matrix(target, logits.argmax(1)).tolist()
    own = F.cross_entropy(logits, shares, reduction="none")
    assert held["top_losses"][0]["loss"] == pytest.approx(float(own.max()), rel=1e-4)
    assert any(note.startswith("The losses of the samples are verified") for note in held["notes"])


SOFTENED = "Targets are shares of a yes: above 0.5 counts as yes, and the loss is that of the yes or no."


@pytest.mark.parametrize("form", ["flat", "column", "labels"])
def test_smoothed_answers_of_yes_or_no_are_yes_or_no(form: str, tmp_path: Path) -> None:
    class Smooth(Says):
        def loss(self, batch: Any) -> Tensor:
            return F.binary_cross_entropy_with_logits(self(batch[0]), 0.9 * batch[1].float() + 0.05)

    shape = {"flat": (60,), "column": (60, 1), "labels": (60, 4)}[form]
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    target = (logits + torch.randn(shape, generator=torch.Generator().manual_seed(1)) > 0).long()
    held = run(tmp_path, loader(logits, target), Smooth())
    assert held["task"] == ("multilabel" if form == "labels" else "binary")
    assert held["accuracy"]["value"] == pytest.approx(((logits > 0) == (target == 1)).float().mean().item())
    if form != "labels":
        assert table(held).tolist() == confusion_matrix(target.flatten(), logits.flatten() > 0).tolist()
    assert SOFTENED in held["notes"]


def test_a_later_batch_may_be_the_first_with_shares(tmp_path: Path) -> None:
    class Blends(Says):
        def loss(self, batch: Any) -> Tensor:
            return F.binary_cross_entropy_with_logits(self(batch[0]), batch[1])

    logits, target = torch.tensor([-2.0, 1.0, 3.0, -1.0]), torch.tensor([0.0, 1.0, 0.9, 0.8])
    held = run(tmp_path, loader(logits, target, size=2), Blends())
    assert table(held).tolist() == [[1, 0], [1, 2]]


class Rebuilds(Says):
    """An autoencoder whose batches hold labels that it makes no use of."""

    compare: Any = staticmethod(F.mse_loss)

    def loss(self, batch: Any) -> Tensor:
        return self.compare(self(batch[0]).sigmoid(), batch[0])

    def forward(self, x: Tensor) -> Tensor:
        return x.clone() + 0 * self.offset


class RebuildsByYesOrNo(Rebuilds):
    compare = staticmethod(F.binary_cross_entropy)


@pytest.mark.parametrize("kind", [Rebuilds, RebuildsByYesOrNo])
def test_an_autoencoder_is_no_classifier(kind: Any, tmp_path: Path) -> None:
    images, labels = digits()
    with pytest.raises(PredictionsNotFound, match="got a regression, whose error BiasVarianceReport measures: "):
        run(tmp_path, loader(images[:60], labels[:60]), kind())


def test_squares_of_one_hot_targets_are_of_a_classifier(tmp_path: Path) -> None:
    class Squares(Says):
        def loss(self, batch: Any) -> Tensor:
            return F.mse_loss(self(batch[0]), F.one_hot(batch[1], 3).float())

    logits, target = random_answers(60, 3)
    held = run(tmp_path, loader(logits, target), Squares())
    assert table(held).tolist() == confusion_matrix(target, logits.argmax(1)).tolist()


def test_lengths_that_differ_are_told(tmp_path: Path) -> None:
    with pytest.raises(PredictionsNotFound) as caught:
        run(tmp_path, loader(*random_answers(32, 4), size=32), adapter=lambda outputs, batch: (batch[0][:5], batch[1]))
    assert str(caught.value).startswith(
        "ErrorAnalysis needs predictions of classes with their targets, got predictions of float32[5, 4] and "
        "targets of int64[32]: their lengths differ (from the adapter"
    )


def test_scores_that_are_not_finite_are_left_out_and_told(tmp_path: Path) -> None:
    logits, target = random_answers(60, 3)
    logits[[3, 40], 1] = torch.nan
    logits[7] = torch.inf
    logits[9, (target[9] + 1) % 3] = -torch.inf  # a class that is masked is an answer
    held = run(tmp_path, loader(logits, target))
    fine = torch.tensor([at not in (3, 40, 7) for at in range(60)])
    assert (held["n"], held["broken"]) == (57, 3)
    assert table(held).tolist() == confusion_matrix(target[fine], logits.argmax(1)[fine]).tolist()
    assert "3 samples have scores that are not finite, and no part in the counts." in held["notes"]


def test_targets_that_are_no_class_are_left_out_and_told(tmp_path: Path) -> None:
    class ReturnsScores(Says):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return {"logits": self(batch[0]), "target": batch[1]}

    logits, target = random_answers(60, 3)
    target[:4] = torch.tensor([3, 7, -1, -100])
    held = run(tmp_path, loader(logits, target), ReturnsScores())
    assert held["n"] == 56
    assert "3 targets are no class from 0 to 2: they are left out of all counts." in held["notes"]
