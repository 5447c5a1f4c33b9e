"""What cannot be counted is told in the sanity check; in a preset once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from evaluation.erring import Says, loader, random_answers, read, run, table
from evaluation.error_analysis.counted import losses
from monitors.breaking import QUIET
from sklearn.metrics import (
    confusion_matrix,
)
from torch import Tensor

from lightning_debugkit import ErrorAnalysis, read_journal
from lightning_debugkit.evaluation.predictions.reader import PredictionsNotFound

pytestmark = pytest.mark.filterwarnings("ignore")


def test_the_sanity_check_counts_nothing(tmp_path: Path) -> None:
    logits, target = random_answers(64, 3)
    trainer = pl.Trainer(
        default_root_dir=tmp_path, max_epochs=2, callbacks=[ErrorAnalysis()], **{**QUIET, "num_sanity_val_steps": 2}
    )
    trainer.fit(Says(), loader(logits, target), loader(logits, target))
    held = read(tmp_path)
    assert held["n"] == 64
    assert [(row["epoch"], row["step"]) for row in held["history"]] == [(0, 4), (1, 8)]


class Silent(Says):
    """A loss of its own making, nothing returned."""

    def loss(self, batch: Any) -> Any:
        x = batch[0] + 0 * self.offset
        return (x.logsumexp(1) - x.gather(1, batch[1][:, None])[:, 0]).mean()

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return None


class Regression(Says):
    def loss(self, batch: Any) -> Tensor:
        return F.mse_loss(self(batch[0]), batch[0] + 1)


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        (Silent, "ErrorAnalysis needs the model's predictions and their targets, and found none for this batch."),
        (
            Regression,
            "ErrorAnalysis needs predictions of classes with their targets, got a regression, whose error "
            "BiasVarianceReport measures: predictions of float32[16, 3] with targets of float32[16, 3] (from ",
        ),
    ],
)
def test_what_cannot_be_counted_fails_in_the_sanity_check(kind: Any, part: str, tmp_path: Path) -> None:
    source = loader(*random_answers(60, 3))
    options = {**QUIET, "num_sanity_val_steps": 1}
    trainer = pl.Trainer(default_root_dir=tmp_path, max_epochs=1, callbacks=[ErrorAnalysis()], **options)
    if kind is Regression:
        source = loader(torch.randn(60, 3), torch.randn(60, 3))
    with pytest.raises(PredictionsNotFound) as caught:
        trainer.fit(kind(), source, source)
    assert str(caught.value).startswith(part)
    assert trainer.global_step == 0


def test_in_a_preset_it_warns_once_and_goes_without(tmp_path: Path, caplog: Any) -> None:
    source = loader(*random_answers(60, 3))
    callback = ErrorAnalysis(on_missing="warn")
    trainer = pl.Trainer(default_root_dir=tmp_path, max_epochs=2, callbacks=[callback], **QUIET)
    trainer.fit(Silent(), source, source)
    told = [record for record in caplog.records if "leaves its section out" in record.getMessage()]
    assert len(told) == 1
    assert not (tmp_path / "debugkit/errors.json").exists()
    assert not read_journal(tmp_path / "debugkit").of_kind("trouble")


def test_samples_beyond_the_limit_are_counted_all_the_same(tmp_path: Path) -> None:
    logits, target = random_answers(100, 3)
    held = run(tmp_path, loader(logits, target), max_samples=40)
    assert table(held).tolist() == confusion_matrix(target, logits.argmax(1)).tolist()
    assert [row["index"] for row in held["top_losses"]] == losses(logits, target).argsort(descending=True)[:25].tolist()
    assert any(note.startswith("The first 40 of 100 samples are remembered one by one") for note in held["notes"])


def test_an_adapter_that_raises_is_named_in_the_sanity_check(tmp_path: Path) -> None:
    logits, target = random_answers(30, 3)
    says = r"needs an adapter that returns predictions and targets, got IndexError: .* from it; validation_step\(\) ret"
    with pytest.raises(PredictionsNotFound, match=says):
        run(tmp_path, loader(logits, target), adapter=lambda outputs, batch: batch[7])


def test_loaders_that_are_not_there_are_told(tmp_path: Path) -> None:
    logits, target = random_answers(30, 3)
    with pytest.raises(PredictionsNotFound, match=r"needs loaders below 1, as there are so many, got \[7\]"):
        run(tmp_path, loader(logits, target), loaders=[7])
