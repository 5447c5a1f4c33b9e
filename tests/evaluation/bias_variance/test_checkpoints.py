"""What checkpoints, tests and resumed fits know of the errors before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from evaluation.rigged import Rigged, answers, read
from lightning.pytorch.callbacks import ModelCheckpoint
from monitors.breaking import QUIET, journal
from torch import Tensor

from lightning_debugkit import BiasVarianceReport

pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_test_in_another_process_takes_up_the_checkpoint(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path / "ckpt", save_last=True)
    trainer = pl.Trainer(
        default_root_dir=tmp_path / "fit", callbacks=[BiasVarianceReport(goal=0.01), checkpoint],
        **{**QUIET, "enable_checkpointing": True, "max_epochs": 2},
    )  # fmt: skip
    trainer.fit(Rigged(), answers(1000, 200), answers(1000, 270))

    fresh = pl.Trainer(default_root_dir=tmp_path / "test", callbacks=[BiasVarianceReport(goal=0.01)], **QUIET)
    fresh.test(Rigged(), answers(1000, 280), ckpt_path=str(tmp_path / "ckpt/last.ckpt"), verbose=False)
    found = read(tmp_path / "test")
    assert list(found["gaps"]) == ["avoidable_bias", "variance", "validation_overfitting"]
    assert found["errors"]["train"] == read(tmp_path / "fit")["errors"]["train"]


def test_the_best_checkpoint_is_what_the_verdict_speaks_of(tmp_path: Path) -> None:
    class Worsens(Rigged):
        """Right in the first epoch, wrong about class 0 later."""

        def forward(self, x: Tensor) -> Tensor:
            late = self.scale < 0.9
            return super().forward(torch.where((x == 0) & late, 1, x))

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    checkpoint = ModelCheckpoint(tmp_path / "ckpt", monitor="val_acc", mode="max")
    callback, module = BiasVarianceReport(), Worsens()
    trainer = pl.Trainer(
        default_root_dir=tmp_path, callbacks=[callback, checkpoint],
        **{**QUIET, "enable_checkpointing": True, "max_epochs": 6},
    )  # fmt: skip
    trainer.fit(module, answers(128, 0), answers(400, 0))
    errors = [moment["errors"]["val"][0] for moment in callback.memory.moments]
    assert errors[0] == 0.0
    assert errors[-1] == 0.25
    held = [m["value"] for m in journal(tmp_path).of_kind("measure") if m["name"] == "bias-variance"][-1]
    assert held["speaks_of"].startswith("the checkpoint epoch=0-step=2.ckpt, of epoch 0")
    assert read(tmp_path)["errors"]["val"]["value"] == 0.0
    assert any("McNemar" in note and "epoch 5 is worse than epoch 0" in note for note in held["notes"])

    trainer.test(module, answers(100, 0), verbose=False)
    assert read(tmp_path)["errors"]["val"]["value"] == 0.25, "the last weights were tested, not the best"
    trainer.test(module, answers(100, 0), ckpt_path="best", verbose=False)
    assert read(tmp_path)["errors"]["val"]["value"] == 0.0
    assert read(tmp_path)["errors"]["test"]["value"] == 0.0


def test_a_resumed_fit_remembers_its_past(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path / "ckpt", save_last=True)
    for epochs, folder in ((2, "first"), (4, "second")):
        callback = BiasVarianceReport()
        trainer = pl.Trainer(
            default_root_dir=tmp_path / folder, callbacks=[callback, checkpoint],
            **{**QUIET, "enable_checkpointing": True, "max_epochs": epochs},
        )  # fmt: skip
        last = str(tmp_path / "ckpt/last.ckpt") if folder == "second" else None
        trainer.fit(Rigged(), answers(64, 4), answers(64, 4), ckpt_path=last)
    assert [moment["epoch"] for moment in callback.memory.moments] == [0, 1, 2, 3]
