"""A Trainer counts on from one fit to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import GradientAnomalyDetector, read_journal


class Line(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.layer(batch[0]).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.01)


@pytest.mark.parametrize(
    ("limit", "is_resumed", "told"),
    [
        ({"max_epochs": 2}, False, "this Trainer has made 2 epochs already, and max_epochs is 2"),
        ({"max_steps": 6}, False, "this Trainer has made 6 steps already, and max_steps is 6"),
        ({"max_epochs": 2}, True, "the checkpoint has 2 epochs already, and max_epochs is 2"),
        ({"max_steps": 6}, True, "the checkpoint has 6 steps already, and max_steps is 6"),
    ],
)
@pytest.mark.parametrize("is_raised", [False, True])
def test_what_has_made_the_steps_already_is_told_by_its_name(
    limit: Any, is_resumed: bool, told: str, is_raised: bool, tmp_path: Path
) -> None:
    trainer = pl.Trainer(
        default_root_dir=tmp_path,
        callbacks=[GradientAnomalyDetector()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        **limit,
    )
    model, loader = Line(), DataLoader(TensorDataset(torch.randn(12, 4)), 4)
    trainer.fit(model, loader)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    if is_raised:
        trainer.fit_loop.max_epochs, trainer.fit_loop.epoch_loop.max_steps = 4, 12
    trainer.fit(model, loader, ckpt_path=tmp_path / "last.ckpt" if is_resumed else None)
    found = [each.message for each in read_journal(tmp_path / "debugkit-1").findings if each.rule == "no-training-step"]
    assert found == ([] if is_raised else [f"the fit took no training step: {told}"])


@pytest.mark.skipif(not hasattr(pl.callbacks, "EMAWeightAveraging"), reason="not in this Lightning")
@pytest.mark.parametrize("is_averaged", [True, False])
def test_weights_that_are_no_average_any_more_are_told(is_averaged: bool, tmp_path: Path) -> None:
    def fit(ckpt_path: Path | None = None) -> pl.LightningModule:
        model = Line()
        averaging = [pl.callbacks.EMAWeightAveraging(decay=0.9)] if is_averaged else []
        trainer = pl.Trainer(
            default_root_dir=tmp_path,
            callbacks=[GradientAnomalyDetector(), *averaging, pl.callbacks.ModelCheckpoint(tmp_path, "last")],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
            max_epochs=2,
        )
        trainer.fit(model, DataLoader(TensorDataset(torch.ones(12, 4)), 4), ckpt_path=ckpt_path)
        return model

    first, again = fit(), fit(tmp_path / "last.ckpt")
    (found,) = [one for one in read_journal(tmp_path / "debugkit-1").findings if one.rule == "no-training-step"]
    assert torch.equal(first.layer.weight, again.layer.weight) is not is_averaged
    assert ("the weights are those of training" in found.message) is is_averaged
