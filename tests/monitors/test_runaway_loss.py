"""A rate that is far too high is called the cause of the overflow that it leads to, with its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from monitors.breaking import QUIET, journal
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import GradientAnomalyDetector, TrainingAnomaly

pytestmark = pytest.mark.filterwarnings("ignore")


class Regression(pl.LightningModule):
    def __init__(self, net: nn.Module, rate: float) -> None:
        super().__init__()
        self.net, self.rate = net, rate

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.mse_loss(self.net(batch[0])[:, 0], batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.rate)


def fit(net: Any, rate: float, folder: Path, entry: float = 0.0) -> pl.LightningModule:
    pl.seed_everything(1, verbose=False)
    x = torch.randn(320, 5)
    y = x.sum(1)
    if entry:
        x[200] = entry
    module = Regression(net(), rate)
    trainer = pl.Trainer(max_epochs=2, default_root_dir=folder, callbacks=[GradientAnomalyDetector()], **QUIET)
    trainer.fit(module, DataLoader(TensorDataset(x, y), batch_size=32))
    return module


def one_layer() -> nn.Module:
    return nn.Linear(5, 1)


def two_layers() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1))


@pytest.mark.parametrize("net", [one_layer, two_layers])
def test_the_rate_is_named_with_what_it_did_to_the_loss(net: Any, tmp_path: Path) -> None:
    with pytest.raises(TrainingAnomaly, match=r"the loss ran away, from .* at a learning rate of 50, until") as raised:
        fit(net, 50.0, tmp_path / "high")
    finding = raised.value.finding
    assert finding.advice.startswith("Lower the learning rate (it is 50), by ten to begin with; ")
    assert "sample" not in finding.message
    assert finding.evidence["learning_rate"] == 50
    fit(net, 0.01, tmp_path / "mended")
    assert journal(tmp_path / "mended").findings == []


@pytest.mark.parametrize(("net", "rate"), [(one_layer, 1e20), (two_layers, 1e10), (two_layers, 1e20)])
def test_a_rate_whose_first_update_is_enough_is_named_too(net: Any, rate: float, tmp_path: Path) -> None:
    with pytest.raises(TrainingAnomaly, match=r"to more than its type holds in one step at a learning rate") as raised:
        fit(net, rate, tmp_path)
    assert raised.value.finding.where.step == 1
    assert raised.value.finding.evidence["learning_rate"] == rate
    assert raised.value.finding.advice.startswith("Lower the learning rate")


def test_a_second_batch_that_overflows_by_itself_is_not_blamed_on_the_rate(tmp_path: Path) -> None:
    """The weights are sound, and a large entry of moderate size is what exp does not hold."""

    class Exponential(Regression):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return super().training_step((x.clamp(-3, 3), y), batch_idx) + (x[:, 0] + 1).exp().mean() * 0.01

    pl.seed_everything(1, verbose=False)
    x = torch.randn(320, 5)
    x[32] = 200.0
    trainer = pl.Trainer(max_epochs=1, default_root_dir=tmp_path, callbacks=[GradientAnomalyDetector()], **QUIET)
    with pytest.raises(TrainingAnomaly, match="overflow of exp") as raised:
        trainer.fit(Exponential(one_layer(), 0.01), DataLoader(TensorDataset(x, x.sum(1) / 100), batch_size=32))
    assert raised.value.finding.where.step == 1
    assert "learning_rate" not in raised.value.finding.evidence


def test_a_sample_of_its_own_size_is_to_blame_and_no_rate(tmp_path: Path) -> None:
    with pytest.raises(TrainingAnomaly, match=r"as batch\[0\] reaches 1e\+30") as raised:
        fit(one_layer, 0.01, tmp_path, entry=1e30)
    assert raised.value.finding.advice.endswith("; the learning rate is not to blame.")
    assert "learning_rate" not in raised.value.finding.evidence


def test_a_number_that_breaks_without_an_overflow_keeps_its_own_words(tmp_path: Path) -> None:
    """The loss has run away, too, by then, but it is the logarithm that breaks."""

    class Rooted(Regression):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            return loss + (torch.log(loss * 0) if loss > 1e9 else 0)

    pl.seed_everything(1, verbose=False)
    x = torch.randn(320, 5)
    trainer = pl.Trainer(max_epochs=2, default_root_dir=tmp_path, callbacks=[GradientAnomalyDetector()], **QUIET)
    with pytest.raises(TrainingAnomaly, match=r"log\(0\)"):
        trainer.fit(Rooted(one_layer(), 50.0), DataLoader(TensorDataset(x, x.sum(1)), batch_size=32))
