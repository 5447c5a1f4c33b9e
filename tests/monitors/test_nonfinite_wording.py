"""A bad sample is named so that its owner can go and look at it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from monitors.breaking import fit, make
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import Finding, GradientAnomalyDetector, TrainingAnomaly

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore::UserWarning:lightning")]


def told(folder: Path, bad: list[int], shuffle: bool = True) -> tuple[Finding, str]:
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(3))
    x[bad, 2] = math.nan
    loader = DataLoader(TensorDataset(x, x.nan_to_num().sum(1, keepdim=True)), batch_size=8, shuffle=shuffle)
    with pytest.raises(TrainingAnomaly) as caught:
        fit(make(), folder, GradientAnomalyDetector(), train=loader)
    return caught.value.finding, str(caught.value)


def test_the_entry_of_the_dataset_is_in_the_advice_and_in_the_exception(tmp_path: Path) -> None:
    finding, text = told(tmp_path, [21])
    assert finding.rule == "nonfinite-input"
    assert f"batch[0] holds nan in column 2, sample {finding.evidence['samples'][0]} of the batch" in finding.message
    assert finding.advice == "Clean or drop entry 21 of the dataset."
    assert "entry 21 of the dataset" in text


def test_the_column_of_a_table_is_named_and_no_parameter(tmp_path: Path) -> None:
    finding, _ = told(tmp_path, [21])
    assert finding.evidence["columns"] == [2]
    assert finding.evidence["parameters"] == []  # the gradients of all of them are broken: that tells nothing


def test_several_entries_are_all_named(tmp_path: Path) -> None:
    finding, _ = told(tmp_path, [17, 20], shuffle=False)
    assert finding.advice == "Clean or drop entries 17, 20 of the dataset."


class Remembers(pl.LightningModule):
    """Pulls its answers towards those of three steps ago; one of them broke, and was kept."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(6, 1)
        self.answers: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        answer = self.net(batch[0])
        kept = answer.detach().mean()
        self.answers.append(kept * math.nan if self.global_step == 3 else kept)
        return (answer - batch[1]).square().mean() + 0.1 * (answer.mean() - self.answers[-4:][0]).square()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-2)


def test_what_was_kept_from_an_earlier_step_is_named_where_the_replay_shows_nothing(tmp_path: Path) -> None:
    """The first run has added its own answer: the second looks back to another."""
    with pytest.raises(TrainingAnomaly) as caught:
        fit(Remembers(), tmp_path, GradientAnomalyDetector())
    assert caught.value.finding.where.step == 6
    told = "the replay of the step did not reproduce it; answers.3 holds nan, which was kept from an earlier step"
    assert told in caught.value.finding.message


@pytest.mark.parametrize(("breaks", "named"), [("nan", 0), ("backward", 1)])
def test_parameters_are_named_where_the_loss_is_finite(breaks: str, named: int, tmp_path: Path) -> None:
    """A loss that is not breaks the gradients of all of them."""
    with pytest.raises(TrainingAnomaly) as caught:
        fit(make(breaks, (2,)), tmp_path, GradientAnomalyDetector())
    assert len(caught.value.finding.evidence["parameters"]) == named


class DividesByItsLast(pl.LightningModule):
    """Divides by the range of the batch before, which is 0 for one of them, and keeps its own for the next."""

    def __init__(self, least: float) -> None:
        super().__init__()
        self.net, self.least, self.range = nn.Linear(6, 1), least, torch.ones(6)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x = (batch[0] - batch[0][:1]) / self.range
        self.range = (batch[0].amax(0) - batch[0].amin(0)).clamp(min=self.least)
        return self.net(x).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def test_what_a_step_takes_from_an_attribute_that_it_replaces_is_put_back_for_its_replay(tmp_path: Path) -> None:
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(3))
    x[24:32, 4] = 0
    loader = DataLoader(TensorDataset(x, x), batch_size=8)
    module = DividesByItsLast(0.0)
    with pytest.raises(TrainingAnomaly) as caught:
        fit(module, tmp_path, GradientAnomalyDetector(), train=loader)
    finding = caught.value.finding
    assert finding.where.step == 4
    assert "div" in finding.evidence["op"]
    assert "x = (batch[0] - batch[0][:1]) / self.range" in finding.evidence["source"]
    assert torch.equal(module.range, x[32:40].amax(0) - x[32:40].amin(0))
    fit(DividesByItsLast(0.1), tmp_path / "mended", GradientAnomalyDetector(), train=loader)
