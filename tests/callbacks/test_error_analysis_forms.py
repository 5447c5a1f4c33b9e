"""What the first batch cannot tell is told by a later one, and taken back if need be."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from callbacks.breaking import QUIET
from callbacks.erring import Says, loader, random_answers, run
from torch import Tensor

from lightning_debugkit import ErrorAnalysis
from lightning_debugkit.callbacks.predictions.reader import PredictionsNotFound

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
