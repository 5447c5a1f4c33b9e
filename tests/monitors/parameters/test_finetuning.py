"""Batch norm that Lightning's own finetuning leaves out is meant; any other layer outside of the optimizer is not."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import BaseFinetuning, StochasticWeightAveraging
from monitors.breaking import Net, fit, journal
from torch import nn

from lightning_debugkit import Finding, GradientAnomalyDetector

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore::UserWarning:lightning")]


class Stages(BaseFinetuning):
    """Unfreezes the end of the body in the second epoch, and its beginning in the third."""

    def __init__(self, forgets: bool = False) -> None:
        super().__init__()
        self.forgets = forgets

    def freeze_before_training(self, pl_module: Any) -> None:
        self.freeze(pl_module.body, train_bn=False)

    def finetune_function(self, pl_module: Any, epoch: int, optimizer: Any) -> None:
        if epoch in (1, 2):
            part = pl_module.body[2:] if epoch == 1 else pl_module.body[:2]
            if self.forgets:
                self.make_trainable(part)
            self.unfreeze_and_add_param_group([m for m in part if not self.forgets], optimizer, train_bn=False)


class Tuned(Net):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.head = nn.Linear(8, 1)
        self.net = nn.Sequential(self.body, self.head)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD((p for p in self.parameters() if p.requires_grad), lr=1e-2)


def outside(folder: Path, *callbacks: pl.Callback) -> list[Finding]:
    torch.manual_seed(0)
    fit(Tuned(), folder, *callbacks, GradientAnomalyDetector(), max_epochs=4)
    return [finding for finding in journal(folder).findings if finding.rule == "parameter-not-in-optimizer"]


def test_batch_norm_that_finetuning_leaves_out_is_one_note_for_all_stages(tmp_path: Path) -> None:
    (found,) = outside(tmp_path, Stages())
    assert str(found.severity) == "info"
    assert "as Stages leaves batch norm out (train_bn=False)" in found.message
    assert found.advice == "Pass train_bn=True if the batch norm is to train, too."


def test_layers_that_finetuning_forgets_are_a_fault(tmp_path: Path) -> None:
    warned = [found for found in outside(tmp_path, Stages(forgets=True)) if str(found.severity) == "warning"]
    layers = {name.rpartition(".")[0] for found in warned for name in found.evidence["parameters"]}
    assert layers == {"net.0.0", "net.0.2"}


@pytest.mark.parametrize(
    "callback", [Stages(), StochasticWeightAveraging(1e-2, 1, annealing_epochs=1)], ids=["finetuning", "averaging"]
)
def test_rates_that_a_callback_sets_are_not_a_checkpoints(callback: pl.Callback, tmp_path: Path) -> None:
    def told(name: str, ckpt_path: Path | None = None) -> list[str]:
        torch.manual_seed(0)
        watched = [copy.deepcopy(callback), GradientAnomalyDetector()]
        trainer = fit(Tuned(), tmp_path, *watched, max_epochs=3 if ckpt_path is None else 5, ckpt_path=ckpt_path)
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        return [finding.rule for finding in journal(tmp_path, name).findings]

    assert "learning-rate-restored" not in told("debugkit")
    assert "learning-rate-restored" not in told("debugkit-1", tmp_path / "last.ckpt")
