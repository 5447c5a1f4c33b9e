"""What is known of a schedule before the first step, and the words for one that the program steps by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from monitors.breaking import QUIET
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LinearLR
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import Finding, GradientAnomalyDetector, read_journal
from lightning_debugkit.monitors.optimization.learning_rate_schedule import _rising_by_step

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]


class Scheduled(pl.LightningModule):
    def __init__(self, schedule: Callable[[Any], Any], interval: str, by_hand: bool = False) -> None:
        super().__init__()
        self.automatic_optimization = not by_hand
        self.net = nn.Linear(4, 1)
        self.schedule, self.interval = schedule, interval

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
        if self.automatic_optimization:
            return loss
        self.optimizers().zero_grad()
        self.manual_backward(loss)
        self.optimizers().step()
        self.lr_schedulers().step()
        return None

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), 1e-2)
        return [optimizer], [{"scheduler": self.schedule(optimizer), "interval": self.interval}]


def told(module: Scheduled, folder: Path, epochs: int = 3) -> list[Finding]:
    x = torch.randn(320, 4, generator=torch.Generator().manual_seed(1))
    data = DataLoader(TensorDataset(x, x @ torch.ones(4, 1)), 8)  # 40 batches
    options: Any = {**QUIET, "max_epochs": epochs}
    pl.Trainer(default_root_dir=folder, callbacks=[GradientAnomalyDetector()], **options).fit(module, data)
    return [one for one in read_journal(folder / "debugkit").findings if one.rule == "learning-rate-schedule"]


def ramp(length: int) -> Callable[[Any], Any]:
    return lambda optimizer: LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / length))


def test_a_ramp_over_steps_that_is_stepped_by_epoch_is_told_before_the_first_step(tmp_path: Path):
    (finding,) = told(Scheduled(ramp(100), "epoch"), tmp_path)
    assert "LambdaLR warms up for 99 calls, but this run calls it 3 times" in finding.message
    assert "'interval': 'step'" in finding.advice
    assert finding.where.step == 0


@pytest.mark.parametrize(
    ("schedule", "interval"),
    [
        (ramp(100), "step"),
        (ramp(5), "epoch"),  # three epochs of a program that is to run for more
        (ramp(4000), "epoch"),  # fits neither
        (lambda optimizer: LambdaLR(optimizer, lambda epoch: 0.9**epoch), "epoch"),
    ],
    ids=["by step", "short trial", "longer than both", "decay"],
)
def test_a_ramp_that_the_run_can_hold_or_only_tries_is_not_told_before(schedule: Any, interval: str, tmp_path: Path):
    assert [one for one in told(Scheduled(schedule, interval), tmp_path) if one.where.step == 0] == []


def test_a_ramp_that_is_too_long_by_steps_gets_no_advice_to_step_it_less_often(tmp_path: Path):
    (finding,) = told(Scheduled(ramp(4000), "step"), tmp_path)
    assert finding.advice == "Give LambdaLR a horizon that fits into the 120 calls of this run, or train for longer."


def test_a_schedule_that_the_program_steps_gets_no_advice_about_an_interval(tmp_path: Path):
    def long(optimizer: Any) -> Any:
        return LinearLR(optimizer, 0.01, total_iters=5000)

    (finding,) = told(Scheduled(long, "epoch", by_hand=True), tmp_path)
    assert "still rising at the last step" in finding.message
    assert finding.advice == (
        "Give LinearLR its horizon in the calls that the code makes of its step(): Lightning makes none."
    )


@pytest.mark.parametrize("steps", [40, 999, 4321, 1_000_000])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.93, 2.0])
def test_the_end_of_a_ramp_is_found_in_few_calls(steps: int, share: float) -> None:
    """Exactly, whether the rate stays or falls behind it; a ramp that is longer than the run has none."""
    length, asked = int(steps * share), []
    for fall in (0.0, 1e-9):

        def factor(count: int, fall: float = fall) -> float:
            asked.append(count)
            return min(count, length) - fall * max(0, count - length)

        assert _rising_by_step(factor, 2, float(steps)) == (None if length > steps or length < 10 else length)
    assert len(asked) <= 2 * (2_000 + 3 * steps // 1_000)


def test_a_ramp_many_times_the_run_is_told_with_its_length(tmp_path: Path):
    (finding,) = told(Scheduled(ramp(70_000), "step"), tmp_path)
    assert "LambdaLR warms up for 69999 calls, but this run calls it 120 times" in finding.message


@pytest.mark.parametrize("factor", [lambda step: 1.02**step, lambda step: 1 + step / 10], ids=["powers", "a line"])
def test_a_rate_that_rises_for_good_has_no_length_to_be_told(factor: Any, tmp_path: Path):
    rising = Scheduled(lambda optimizer: LambdaLR(optimizer, lambda step: 1e-3 * factor(step)), "step")
    assert [one for one in told(rising, tmp_path) if one.where.step == 0] == []
