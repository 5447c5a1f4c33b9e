"""What fails in the kit is an event in the journal: no hook, no state and no end lets it out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from monitors.breaking import QUIET, data
from torch import nn

from lightning_debugkit import read_journal
from lightning_debugkit.core.callback import DebugCallback

pytestmark = pytest.mark.usefixtures("one_thread")


class Net(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(6, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.net(batch[0]).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class BrokenState(DebugCallback):
    """Cannot tell its state, nor take it back."""

    def state_dict(self) -> dict[str, Any]:
        raise ZeroDivisionError

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        raise ZeroDivisionError


class Plain(DebugCallback):
    """Has no hook of its own: those of the base are guarded as well."""


def trainer(folder: Path, callback: pl.Callback, epochs: int = 1) -> pl.Trainer:
    return pl.Trainer(default_root_dir=folder, max_epochs=epochs, callbacks=[callback], **QUIET)


def test_a_state_that_fails_costs_neither_checkpoint_nor_resume(tmp_path: Path, caplog: Any) -> None:
    first = trainer(tmp_path, BrokenState())
    first.fit(Net(), data())
    first.save_checkpoint(tmp_path / "last.ckpt")
    second = trainer(tmp_path, BrokenState(), epochs=2)
    second.fit(Net(), data(), ckpt_path=tmp_path / "last.ckpt")
    assert second.current_epoch == 2
    assert any("BrokenState.state_dict failed (ZeroDivisionError" in message for message in caplog.messages)


class Squares(DebugCallback):
    """Computes what underflows."""

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.square = np.square(np.float32([1e-30]))


def test_the_kit_computes_on_where_a_program_has_numpy_raise(tmp_path: Path) -> None:
    callback, levels = Squares(), dict.fromkeys(("divide", "over", "under", "invalid"), "raise")
    with np.errstate(all="raise"):
        trainer(tmp_path, callback).fit(Net(), data())
        assert np.geterr() == levels
    assert callback.square.tolist() == [0.0]
    assert read_journal(tmp_path / "debugkit").of_kind("trouble") == []


@pytest.mark.parametrize("broken", ["open_run", "current_run"])
def test_a_run_that_cannot_be_opened_or_closed_ends_no_training(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any) -> None:
        raise RecursionError("deep")

    monkeypatch.setattr(f"lightning_debugkit.core.callback.{broken}", fails)
    fitted = trainer(tmp_path, Plain())
    fitted.fit(Net(), data())
    assert fitted.state.finished


def test_the_users_error_is_the_one_that_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the end cannot be written."""

    class Fails(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise KeyError("the user's")

    def fails(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(DebugCallback, "finish", fails)
    with pytest.raises(KeyError, match="the user's"):
        trainer(tmp_path, Plain()).fit(Fails(), data())
    (trouble,) = read_journal(tmp_path / "debugkit").of_kind("trouble")
    assert (trouble["hook"], trouble["error"]) == ("on_exception", "ZeroDivisionError: ")
