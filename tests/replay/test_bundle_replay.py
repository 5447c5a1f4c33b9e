"""A step that asks how far its fit is breaks again where it broke, in a Trainer that has fitted nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from monitors.breaking import QUIET, data
from torch import Tensor, nn

from lightning_debugkit import TrainingAnomaly, debugkit
from lightning_debugkit.replay.bundle_replay import replay_bundle, same

pytestmark = pytest.mark.usefixtures("one_thread")


class Late(pl.LightningModule):
    """Its loss is the logarithm of a negative number as soon as ``breaks`` says so of the module."""

    def __init__(self, breaks: Callable[[Late], bool]) -> None:
        super().__init__()
        self.breaks, self.net = breaks, nn.Linear(6, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = (self.net(batch[0]) - batch[1]).square().mean()
        return loss * torch.log(loss * 0 - 1) if self.breaks(self) else loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-2)


class ByHand(Late):
    """Steps two optimizers a batch."""

    def __init__(self, breaks: Callable[[Late], bool]) -> None:
        super().__init__(breaks)
        self.automatic_optimization, self.scale = False, nn.Parameter(torch.ones(()))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        loss: Tensor = super().training_step(batch, batch_idx) * self.scale
        optimizers: Any = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(held, lr=1e-2) for held in (self.net.parameters(), [self.scale])]


ASKS = {
    "step": lambda module: module.global_step >= 5,
    "epoch": lambda module: module.current_epoch == 1,
    "batches": lambda module: module.trainer.fit_loop.total_batch_idx == 5,
    "share": lambda module: module.global_step / module.trainer.estimated_stepping_batches > 0.4,
    "length": lambda module: module.global_step > module.trainer.num_training_batches,
}


@pytest.mark.parametrize(("kind", "breaks"), [*((Late, each) for each in ASKS), (ByHand, "step"), (ByHand, "share")])
def test_a_step_breaks_again_at_the_place_in_the_fit_where_it_broke(
    kind: type[Late], breaks: str, tmp_path: Path
) -> None:
    with pytest.raises(TrainingAnomaly) as raised:
        pl.Trainer(default_root_dir=tmp_path, callbacks=debugkit(), **{**QUIET, "max_epochs": 2}).fit(
            kind(ASKS[breaks]), data()
        )
    assert raised.value.finding.where.step > 0
    (folder,) = (tmp_path / "debugkit" / "bundles").iterdir()
    assert same(*replay_bundle(folder, trust_code=True))


def test_what_is_in_no_bundle_is_not_said_to_break_again(tmp_path: Path) -> None:
    file = tmp_path / "scale.txt"
    file.write_text("nan")
    module = Late(lambda _: math.isnan(float(file.read_text())))
    with pytest.raises(TrainingAnomaly):
        pl.Trainer(default_root_dir=tmp_path, callbacks=debugkit(), **QUIET, max_epochs=1).fit(module, data())
    file.write_text("1")
    (folder,) = (tmp_path / "debugkit" / "bundles").iterdir()
    assert replay_bundle(folder, trust_code=True)[1] is None
