"""A fault of one callback at the end takes neither the end of the run nor the report of the others."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from lightning_debugkit import GradientAnomalyDetector, GradientClippingMonitor, read_journal
from lightning_debugkit.core.callback import DebugCallback


class FailsAtTheEnd(DebugCallback):
    def __init__(self) -> None: ...

    def on_fit_end(self, *args: Any) -> None:
        raise OSError(28, "No space left on device")

    def on_exception(self, *args: Any) -> None:
        raise OSError(28, "No space left on device")


class Raises(BoringModel):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        raise ZeroDivisionError("mine")


@pytest.mark.parametrize("model", [BoringModel, Raises])
def test_the_last_callback_may_fail(tmp_path: Path, model: type[BoringModel], with_report: None) -> None:
    trainer = Trainer(
        callbacks=[GradientAnomalyDetector(), FailsAtTheEnd()], max_steps=2, logger=False, default_root_dir=tmp_path,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, accelerator="cpu",
    )  # fmt: skip
    try:
        trainer.fit(model())
    except ZeroDivisionError:
        assert model is Raises
    journal = read_journal(tmp_path / "debugkit")
    (end,) = journal.of_kind("end")
    assert end["status"] == ("exception" if model is Raises else "finished")
    assert [event["callback"] for event in journal.of_kind("trouble")] == ["FailsAtTheEnd"]
    assert (tmp_path / "debugkit" / "report.html").exists()


def test_what_was_watched_is_let_go_of(tmp_path: Path) -> None:
    """Two callbacks that share norms, beside others: what the run keeps of them must hold neither Trainer nor model."""
    model = BoringModel()
    trainer = Trainer(
        callbacks=[GradientAnomalyDetector(), GradientClippingMonitor()], max_steps=3, logger=False,
        default_root_dir=tmp_path, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        accelerator="cpu",
    )  # fmt: skip
    trainer.fit(model)
    held = weakref.ref(trainer), weakref.ref(model)
    del trainer, model
    gc.collect()
    assert [each() for each in held] == [None, None]
