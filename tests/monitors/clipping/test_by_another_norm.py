"""Clipping by another norm than the Euclidean may overflow where that one does not."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from monitors.breaking import QUIET
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import debugkit, read_journal

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]


class ByThirdNorm(pl.LightningModule):
    def __init__(self, scale: float, clears: bool = False) -> None:
        super().__init__()
        self.net, self.scale, self.clears = nn.Linear(8, 1), scale, clears

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.mse_loss(self.net(batch[0]), batch[1]) * self.scale

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        if self.clears:
            optimizer.zero_grad(set_to_none=False)
        torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0, norm_type=3.0)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 1e-2)


def rules(module: ByThirdNorm, folder: Path) -> set[str]:
    x = torch.randn(256, 8, generator=torch.Generator().manual_seed(1))
    data = DataLoader(TensorDataset(x, x.abs().sum(1, keepdim=True)), 8)
    pl.Trainer(max_epochs=2, default_root_dir=folder, callbacks=debugkit(), **QUIET).fit(module, data)
    return {one.rule for one in read_journal(folder / "debugkit").findings}


def test_a_norm_that_overflows_is_not_taken_for_gradients_that_are_cleared(tmp_path: Path) -> None:
    told = rules(ByThirdNorm(1e15), tmp_path)
    assert "gradients-zeroed-by-clipping" in told
    assert "gradients-cleared" not in told


def test_gradients_that_the_hook_clears_are_still_told_so(tmp_path: Path) -> None:
    assert "gradients-cleared" in rules(ByThirdNorm(1.0, clears=True), tmp_path)


def test_the_same_clipping_of_a_usual_loss_is_left_in_peace(tmp_path: Path) -> None:
    assert not {"gradients-zeroed-by-clipping", "gradients-cleared"} & rules(ByThirdNorm(1.0), tmp_path)
