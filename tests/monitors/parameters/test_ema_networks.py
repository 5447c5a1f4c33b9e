"""A loss that rises against targets of the model's own is told apart from one that runs away."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from healthy import PROGRAMS
from healthy import fit as fit_healthy
from monitors.breaking import Net, data, fit, journal
from torch import Tensor

from lightning_debugkit import GradientAnomalyDetector

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore::UserWarning:lightning")]


def diverging(folder: Path) -> list[Any]:
    return [finding for finding in journal(folder).findings if finding.rule == "diverging-loss"]


@pytest.mark.parametrize("wiring", [True, False])
def test_values_that_grow_are_told_as_a_note_that_names_the_target_network(wiring: bool, tmp_path: Path) -> None:
    fit_healthy(PROGRAMS["values_with_a_target_network"](), tmp_path, GradientAnomalyDetector(wiring=wiring))
    (found,) = diverging(tmp_path)
    assert (str(found.severity), found.evidence["follower"]) == ("info", "target")
    assert "target, which follows the model, makes its targets" in found.message


class RunsAway(Net):
    """A rate far too high; an average of the weights is kept, which only validation asks if that."""

    def __init__(self, held: str) -> None:
        super().__init__()
        self.net = torch.nn.Linear(6, 1)
        self.held = held
        self.average = copy.deepcopy(self.net).requires_grad_(False)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        if self.held == "frozen":
            x = x + 0 * self.average(x)
        return (self.net(x) - y).square().mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", (self.average(batch[0]) - batch[1]).square().mean())

    def val_dataloader(self) -> Any:
        return data(16)

    def on_train_batch_end(self, *args: Any) -> None:
        if self.held == "validated":
            for own, theirs in zip(self.average.parameters(), self.net.parameters(), strict=True):
                own.data.lerp_(theirs.data, 0.1)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.net.parameters(), lr=0.75)


@pytest.mark.parametrize("held", ["validated", "frozen"])
def test_a_copy_that_only_validation_asks_or_that_stands_still_excuses_no_loss(held: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    fit(RunsAway(held), tmp_path, GradientAnomalyDetector(action="warn"), max_epochs=6, val_check_interval=1)
    assert [str(found.severity) for found in diverging(tmp_path)] == ["warning"]
