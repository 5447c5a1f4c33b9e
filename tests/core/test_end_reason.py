"""Why a run is over: in the journal's end, and in the head of the report."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.demos.boring_classes import BoringModel

from lightning_debugkit import GradientAnomalyDetector, read_journal, read_report
from lightning_debugkit.report import markdown


class Model(BoringModel):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", 1.0)


class Asks(pl.Callback):
    """Asks for the end at the third step."""

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step == 3


class Interrupts(pl.Callback):
    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        raise KeyboardInterrupt


class TrialPruned(Exception):
    """As Optuna's."""


class Prunes(pl.Callback):
    def on_validation_end(self, trainer: pl.Trainer, *args: Any) -> None:
        raise TrialPruned("Trial was pruned at epoch 0.")


class Breaks(Model):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx)["loss"] * (math.nan if batch_idx == 2 else 1)


class Fails(Model):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        raise ZeroDivisionError("mine")


PATIENCE = EarlyStopping("val_loss", patience=2)
LIMIT = "the time limit of 0:00:00 was reached (Timer)"
ASKED = "trainer.should_stop was set by the program or one of its callbacks"
ENDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "epochs": ("finished", "max_epochs=2 was reached", {}),
    "steps": ("finished", "max_steps=5 was reached", {"max_steps": 5}),
    "a trial": ("finished", "fast_dev_run", {"fast_dev_run": 2}),
    "no batches": ("finished", "there were no training batches", {"limit_train_batches": 0}),
    "time": ("finished", LIMIT, {"max_time": timedelta(0)}),
    "time within the last epoch": ("finished", LIMIT, {"max_epochs": 1, "callbacks": [Timer(timedelta(0))]}),
    "time that is not over": ("finished", "max_epochs=2 was reached", {"callbacks": [Timer(timedelta(hours=1))]}),
    "early stopping": ("finished", "EarlyStopping", {"max_epochs": 9, "callbacks": [PATIENCE]}),
    "early stopping that waits": ("finished", "max_epochs=2 was reached", {"callbacks": [EarlyStopping("val_loss")]}),
    "the program": ("finished", ASKED, {"callbacks": [Asks(), EarlyStopping("val_loss"), Timer(timedelta(hours=1))]}),
    "an end that comes too early": ("finished", "max_epochs=2 was reached", {"min_epochs": 2, "callbacks": [Asks()]}),
    "a finding": ("finished", "nonfinite-loss, with action='stop'", {"module": Breaks}),
    "a signal": ("interrupted", "KeyboardInterrupt", {"callbacks": [Interrupts()]}),
    "a search that prunes": (
        "interrupted",
        "TrialPruned: Trial was pruned at epoch 0",
        {"callbacks": [Prunes()]},
    ),
    "an error": ("exception", "", {"module": Fails}),
}


def fit(folder: Path, options: dict[str, Any]) -> None:
    options = {"max_epochs": 2, "limit_train_batches": 4, "limit_val_batches": 1, **options}
    module = options.pop("module", Model)()
    callbacks = [GradientAnomalyDetector(action="stop"), *options.pop("callbacks", [])]
    trainer = pl.Trainer(
        **options, callbacks=callbacks, default_root_dir=folder, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("status", "reason", "options"), ENDS.values(), ids=ENDS)
def test_the_end_says_why(status: str, reason: str, options: dict[str, Any], tmp_path: Path) -> None:
    try:
        fit(tmp_path, options)
    except (KeyboardInterrupt, SystemExit, TrialPruned, ZeroDivisionError):
        assert status != "finished"
    (end,) = read_journal(tmp_path / "debugkit").of_kind("end")
    assert end["status"] == status
    assert end.get("reason", "").partition(": Monitored")[0].partition(" on val_loss")[0] == reason
    summary = read_report(tmp_path / "debugkit").summary
    told = f"{status}: {end['reason'].removesuffix('.')}" if reason else status
    assert f"status: {told}." in markdown(summary).replace("\\", "")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_early_stopping_of_a_fit_before_ends_no_other(tmp_path: Path) -> None:
    stopping = EarlyStopping("val_loss", patience=1, check_on_train_epoch_end=False)
    for folder, options in (("first", {"max_epochs": 9}), ("second", {"limit_val_batches": 0})):
        fit(tmp_path / folder, {**options, "callbacks": [stopping]})
    first, second = (read_journal(tmp_path / name / "debugkit").of_kind("end")[0] for name in ("first", "second"))
    assert first["reason"].startswith("EarlyStopping")
    assert second["reason"] == "max_epochs=2 was reached"
