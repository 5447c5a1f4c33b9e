"""A counter that the user holds around the fit counts what the user computes, with the kit and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from lightning_debugkit import debugkit

pytestmark = pytest.mark.filterwarnings("ignore")


class Classifier(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), 0.01)


def counted(folder: Path, callbacks: list[Any]) -> int:
    pl.seed_everything(0, verbose=False)
    x = torch.randn(64, 4)
    data = TensorDataset(x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long())
    trainer = pl.Trainer(
        default_root_dir=folder,
        max_epochs=2,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    with FlopCounterMode(display=False) as counter:
        trainer.fit(Classifier(), DataLoader(data, 8, shuffle=True), DataLoader(data, 32))
    return int(counter.get_total_flops())


@pytest.mark.parametrize("preset", ["light", "standard", "thorough"])
def test_a_flop_counter_around_the_fit_counts_the_same(preset: str, tmp_path: Path) -> None:
    alone = counted(tmp_path / "alone", [])
    assert alone > 0
    assert counted(tmp_path / preset, debugkit(preset)) == alone
