"""Full batches, as of physics-informed networks: few graphs are read, no step is replayed, what changes is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monitors.breaking import Net, data, fit, journal
from torch import Tensor, nn

from lightning_debugkit import GradientAnomalyDetector
from lightning_debugkit.monitors import monitor

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore::UserWarning:lightning")]

UNFREEZES = 60  # epoch


class Late(Net):
    """A layer that is unfrozen in an epoch of the middle; no optimizer knows it."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(1, 1).requires_grad_(False)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.scale(self.net(batch[0]) - batch[1]).square().mean()

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == UNFREEZES:
            self.scale.requires_grad_(True)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.net.parameters(), lr=1e-2)


class Physics(Net):
    """Its loss is of derivatives by the input, which is a leaf of the graph then."""

    calls = 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.calls += 1
        x = batch[0].clone().requires_grad_()
        y = self.net(x)
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        return (slope - 1).square().mean() + (y - batch[1]).square().mean()


def test_graphs_of_full_batches_are_read_ever_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    module = Net()
    reached = monitor.reached
    monkeypatch.setattr(monitor, "reached", lambda loss: read.append(module.global_step) or reached(loss))
    fit(module, tmp_path, GradientAnomalyDetector(), max_epochs=100, train=data(size=64))
    assert read == [0, 1, 2, 3, 4, 6, 9, 13, 19, 28, 42, 63, 94]


def test_what_is_unfrozen_late_is_found_within_fifty_steps(tmp_path: Path) -> None:
    fit(Late(), tmp_path, GradientAnomalyDetector(), max_epochs=UNFREEZES + 60, train=data(size=64))
    (found,) = (each for each in journal(tmp_path).findings if each.rule == "parameter-not-in-optimizer")
    assert set(found.evidence["parameters"]) == {"scale.weight", "scale.bias"}
    assert UNFREEZES <= found.where.step <= UNFREEZES + 50


def test_a_loss_of_derivatives_is_not_replayed(tmp_path: Path) -> None:
    module = Physics()
    fit(module, tmp_path, GradientAnomalyDetector(), max_epochs=8)
    assert module.calls == module.global_step == 64
    assert not [each for each in journal(tmp_path).findings if each.rule == "unregistered-parameter"]
