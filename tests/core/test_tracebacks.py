"""What a user's step raises reaches the user without frames of the kit; a fault of the kit keeps them."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import lightning_debugkit
from lightning_debugkit import debugkit, read_journal
from lightning_debugkit.core.guards import leave_out_passing_frames
from lightning_debugkit.core.patching import around_next

KIT = str(Path(lightning_debugkit.__file__).parent)


class Raises(LightningModule):
    """The loss function itself raises, deep below what listens to it: its targets are no classes."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.net, self.at = nn.Linear(4, 3), at

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        target = torch.zeros(8, dtype=torch.long) + (7 if batch_idx == self.at else 1)
        try:
            return F.cross_entropy(self.net(batch[0]), target)
        except IndexError as error:
            raise ValueError("no such class") from error

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


def frames(error: BaseException | None) -> list[str]:
    return [] if error is None else [frame.filename for frame in traceback.extract_tb(error.__traceback__)]


@pytest.mark.parametrize("at", [0, 3, 10])
def test_a_step_that_raises_is_told_without_frames_of_the_kit(tmp_path: Path, at: int) -> None:
    loader = DataLoader(TensorDataset(torch.randn(128, 4)), batch_size=8)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, callbacks=debugkit("thorough"), **quiet
    )
    with pytest.raises(ValueError, match="no such class") as raised:
        trainer.fit(Raises(at), loader)
    told = frames(raised.value) + frames(raised.value.__cause__)
    assert [file for file in told if file.startswith(KIT)] == []
    assert __file__ in told
    assert any("lightning" in file and "loops" in file for file in told)


def test_a_frame_of_ours_that_raises_stays() -> None:
    class Door:
        def open(self) -> None:
            raise AssertionError("not reached")

    door = Door()
    around_next(door, "open", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError) as raised:
        door.open()
    leave_out_passing_frames(raised.value)
    assert frames(raised.value) == [__file__, __file__]

    around_next(door, "open", lambda: None)
    with pytest.raises(TypeError) as broken:
        door.open()
    leave_out_passing_frames(broken.value)
    assert frames(broken.value)[-1].startswith(KIT)


class Clears(Raises):
    """Takes all callbacks out of the Trainer before it passes an error on, so that none of them hears of it."""

    def __init__(self, at: int, names: tuple[str, ...]) -> None:
        super().__init__(at)
        self.names = names

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        try:
            return super().training_step(batch, batch_idx)
        except ValueError:
            left = [each for each in self.trainer.callbacks if type(each).__name__ not in self.names]
            self.trainer.callbacks[:] = left if self.names else []
            raise


@pytest.mark.parametrize("at", [0, 10])
@pytest.mark.parametrize("names", [(), ("DataCheck",)])
def test_a_step_that_clears_the_callbacks_and_raises_is_explained_once(
    tmp_path: Path, at: int, names: tuple[str, ...], with_report: None
) -> None:
    loader = DataLoader(TensorDataset(torch.randn(128, 4)), batch_size=8)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, callbacks=debugkit(), **quiet)
    with pytest.raises(ValueError, match="no such class") as raised:
        trainer.fit(Clears(at, names), loader)
    assert [file for file in frames(raised.value) if file.startswith(KIT)] == []
    (journal,) = tmp_path.rglob("journal-0.jsonl")
    events = read_journal(journal)
    assert [finding.rule for finding in events.findings].count("step-raised") == 1
    assert [end["status"] for end in events.of_kind("end")] == ["exception"]
    assert (journal.parent / "report.html").exists()
