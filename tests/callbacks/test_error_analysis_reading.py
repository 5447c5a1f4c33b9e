"""Predictions and targets are read as the step's own loss had them, or by the names that are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from callbacks.erring import Says, loader, random_answers, run, table
from sklearn.metrics import confusion_matrix
from torch import Tensor

from lightning_debugkit.callbacks.predictions.reader import PredictionsNotFound

pytestmark = pytest.mark.filterwarnings("ignore")


class Whole(Says):
    """Targets are classes that the data hold as floats, as a table of numbers does."""

    def loss(self, batch: Any) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1].long())


class WholeReturned(Whole):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return {"loss": self.loss(batch), "logits": self(batch[0])}


@pytest.mark.parametrize("kind", [Whole, WholeReturned])
@pytest.mark.parametrize("form", [torch.float32, torch.float64, torch.int32])
def test_classes_that_are_written_as_floats_are_classes_if_the_loss_is_given_them_so(
    form: Any, kind: Any, tmp_path: Path
) -> None:
    logits, target = random_answers(100, 4)
    held = run(tmp_path, loader(logits, target.to(form)), kind())
    assert held["task"] == "multiclass"
    assert table(held).tolist() == confusion_matrix(target, logits.argmax(1)).tolist()
    assert any("are verified: their mean is the loss" in note for note in held["notes"])


def test_values_that_are_whole_are_no_classes(tmp_path: Path) -> None:
    """Four quantiles of a count; no loss was ever given classes."""

    class Quantiles(Says):
        def loss(self, batch: Any) -> Tensor:
            apart = batch[1][:, None] - self(batch[0])
            return torch.maximum(0.5 * apart, -0.5 * apart).mean()

    logits, target = random_answers(40, 4)
    with pytest.raises(PredictionsNotFound, match="needs predictions of classes with their targets"):
        run(tmp_path, loader(logits, target.float()), Quantiles())
