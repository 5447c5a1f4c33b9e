"""Training samples are followed without a validation, too, and the report has them when the fit ends."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from evaluation.erring import loader, random_answers, read
from evaluation.error_analysis.test_training_answers import Delicate, TwoRanks, course, noisy_digits
from monitors.breaking import QUIET

from lightning_debugkit import ErrorAnalysis, read_journal

pytestmark = pytest.mark.filterwarnings("ignore")


def fit(folder: Path, epochs: int = 3, module: pl.LightningModule | None = None, **options: Any) -> Any:
    module = Delicate() if module is None else module
    callback = ErrorAnalysis(training_dynamics=True, class_names=[f"digit {number}" for number in range(10)])
    trainer = pl.Trainer(default_root_dir=folder, callbacks=[callback], **{**QUIET, "max_epochs": epochs, **options})
    trainer.fit(module, loader(noisy_digits(100), shuffle=True))
    return module


@pytest.mark.usefixtures("with_report")
def test_without_validation_the_section_is_of_the_training_samples(tmp_path: Path) -> None:
    told = course(fit(tmp_path).told, 100)
    held = read(tmp_path)
    assert (held["n"], held["confusion"], held["classes"][9]) == (0, [], "digit 9")
    assert sum(held["dynamics"]["regions"].values()) == 100
    for row in held["dynamics"]["hardest"]:
        assert row["confidence"] == pytest.approx(told[row["index"]]["confidence"], abs=1e-5)
    text = (tmp_path / "debugkit/report.md").read_text()
    begins, training = (text.index(part) for part in ("What the model confuses", "What training found easy and hard"))
    assert begins < text.index("Nothing was validated: what is known is how the training samples fared.") < training
    assert "could not be" not in text


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("no_process_left")
def test_two_ranks_tell_it_as_one_does(tmp_path: Path) -> None:
    logits, target = random_answers(61, 3)
    held = []
    for folder, options in (("one", {}), ("two", {"strategy": "ddp_fork", "devices": 2})):
        callback = ErrorAnalysis(training_dynamics=True)
        trainer = pl.Trainer(
            default_root_dir=tmp_path / folder, callbacks=[callback], **{**QUIET, "max_epochs": 3, **options}
        )
        trainer.fit(TwoRanks(), loader(logits, target, torch.arange(61)))
        held.append(read(tmp_path / folder)["dynamics"]["regions"])
    assert held[0] == held[1]


def test_one_epoch_alone_is_told_as_too_few(tmp_path: Path, caplog: Any) -> None:
    with caplog.at_level(logging.WARNING, "lightning_debugkit"):
        fit(tmp_path, epochs=1)
    assert "ErrorAnalysis leaves its section out. It needs two epochs of training, or validation data." in caplog.text
    assert not (tmp_path / "debugkit/errors.json").exists()
    assert read_journal(tmp_path / "debugkit").of_kind("trouble") == []


def test_a_fit_that_breaks_leaves_what_it_has_seen(tmp_path: Path) -> None:
    class Breaks(Delicate):
        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 3:
                raise RuntimeError("the user's own")

    with pytest.raises(RuntimeError, match="the user's own"):
        fit(tmp_path, epochs=5, module=Breaks())
    assert sum(read(tmp_path)["dynamics"]["regions"].values()) == 100
