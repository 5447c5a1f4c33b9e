"""What a program changes in itself while it trains goes on where it was, though Lightning's checkpoints lack it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from checkpointing.resume.interrupted import Net, Save, causes, same, told, train
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    GradientAccumulationScheduler,
    ModelPruning,
    StochasticWeightAveraging,
)
from torch import Tensor, nn

from lightning_debugkit import ExactResume, Severity
from lightning_debugkit.checkpointing.resume.pruning import GOES_BACK

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

WITHIN, BETWEEN = "on_train_batch_end-9", "on_train_epoch_end-12"


class Counted(nn.Linear):
    """A layer that counts how often it was called in training."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training
        return super().forward(x)


class Annealed(Net):
    """A temperature that falls with each step, a stage by epoch, a layer that counts, and a list of the losses."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature, self.stage, self.seen = 2.0, "first", 0
        self.losses: list[float] = []
        self.net[3] = Counted(8, 1)

    def on_train_epoch_start(self) -> None:
        self.stage = "first" if self.current_epoch == 0 else "later"

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.temperature *= 0.9
        loss = self.loss(batch) * self.temperature * (1 + self.net[3].calls) * (0.5 if self.stage == "later" else 1.0)
        self.losses.append(float(loss.detach()))
        return loss + 0.0 * self.seen


class Weighting(pl.Callback):
    """Counts, and weighs the loss by it; without a state of its own."""

    def __init__(self) -> None:
        self.steps = 0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.steps += 1
        pl_module.net[2].p = 0.5 / self.steps  # a rate of dropout that falls


class Thawing(pl.Callback):
    """Trains the first layer from the second epoch on."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        pl_module.net[0].requires_grad_(False)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            pl_module.net[0].requires_grad_(True)


class WithBackbone(Net):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = self.net[:2]

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([one for one in self.parameters() if one.requires_grad], lr=1e-2, momentum=0.9)


def run(
    folder: Path, point: str, module: Callable[[], Any], callbacks: Callable[[], list[Any]] = list
) -> tuple[pl.LightningModule, pl.LightningModule]:
    """Return the modules of a run that is not interrupted, and of one that goes on from there."""
    one = train(folder / "whole", module, callbacks=[ExactResume(), *callbacks(), Save(folder, point)])
    path = folder / f"{point}.ckpt"
    other = train(folder / point, module, seed=99, callbacks=[ExactResume(), *callbacks()], ckpt_path=path)
    return one, other


GOES_ON: dict[str, tuple[Callable[[], Any], Callable[[], list[Any]]]] = {
    "attributes of modules": (Annealed, list),
    "a callback without a state": (Net, lambda: [Weighting()]),
    "layers that a callback thaws": (Net, lambda: [Thawing()]),
    "BackboneFinetuning": (WithBackbone, lambda: [BackboneFinetuning(1, verbose=False)]),
    "GradientAccumulationScheduler": (Net, lambda: [GradientAccumulationScheduler({0: 1, 1: 3})]),
    "StochasticWeightAveraging": (Net, lambda: [StochasticWeightAveraging(1e-3, 2, annealing_epochs=2)]),
}


@pytest.mark.parametrize("point", [WITHIN, BETWEEN])
@pytest.mark.parametrize(("module", "callbacks"), GOES_ON.values(), ids=GOES_ON)
def test_the_end_is_the_same(
    point: str, module: Callable[[], Any], callbacks: Callable[[], list[Any]], tmp_path: Path
) -> None:
    one, other = run(tmp_path, point, module, callbacks)
    assert same(one, other)
    assert told(tmp_path / point) == []


def test_values_are_those_of_the_run_before(tmp_path: Path) -> None:
    one, other = run(tmp_path, WITHIN, Annealed)
    assert (one.temperature, one.stage, one.net[3].calls) == (other.temperature, other.stage, 18)
    assert other.net[3].calls == 18
    # A list is a record of what each process did.
    assert other.losses == one.losses[9:]


def test_what_did_not_move_is_the_programs(tmp_path: Path) -> None:
    class Wider(Annealed):
        def __init__(self) -> None:
            super().__init__()
            self.seen = 7 if (tmp_path / f"{WITHIN}.ckpt").exists() else 3

    _, other = run(tmp_path, WITHIN, Wider)
    assert other.seen == 7


def test_what_the_module_reads_itself_is_its_own(tmp_path: Path) -> None:
    class Reading(Annealed):
        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            self.temperature = 100.0

    _, other = run(tmp_path, BETWEEN, Reading)
    assert other.temperature == pytest.approx(100.0 * 0.9**6)


def test_a_callback_with_a_state_keeps_its_own(tmp_path: Path) -> None:
    met = []

    class Keeping(pl.Callback):
        count = 0

        def on_train_batch_end(self, *args: Any) -> None:
            self.count += 1

        def on_train_end(self, *args: Any) -> None:
            met.append(self.count)

        def state_dict(self) -> dict[str, Any]:
            return {"count": 1000}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.count = state_dict["count"]

    run(tmp_path, BETWEEN, Net, lambda: [Keeping()])
    assert met == [18, 1006]


@pytest.mark.parametrize("clock", [time.time, time.perf_counter, time.monotonic])
def test_the_time_at_which_something_began_is_left(clock: Callable[[], float], tmp_path: Path) -> None:
    begins = []

    class Timed(Net):
        began = 0.0

        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 0:
                self.began = clock()

        def on_train_end(self) -> None:
            begins.append(self.began)

    run(tmp_path, BETWEEN, Timed)
    assert begins[0] > 0.0
    assert begins[1] == 0.0


PRUNING: dict[str, tuple[str, list[str], Any]] = {
    "pruned": (BETWEEN, ["pruned"], {"use_lottery_ticket_hypothesis": False}),
    "not yet": (WITHIN, [], {"use_lottery_ticket_hypothesis": False, "apply_pruning": lambda epoch: epoch == 2}),
    "weights of the set-up": (WITHIN, ["pruning-originals"] * GOES_BACK, {"apply_pruning": lambda epoch: epoch == 2}),
}


@pytest.mark.parametrize(("point", "names", "options"), PRUNING.values(), ids=PRUNING)
def test_pruning_that_does_not_go_on_is_told(point: str, names: list[str], options: Any, tmp_path: Path) -> None:
    one, other = run(tmp_path, point, Net, lambda: [ModelPruning("l1_unstructured", amount=0.3, **options)])
    assert causes(tmp_path / point) == names
    assert same(one, other) is not bool(names)
    assert all(finding.severity is Severity.WARNING for finding in told(tmp_path / point))


def test_a_model_of_parts_of_torch_alone_keeps_nothing(tmp_path: Path) -> None:
    run(tmp_path, BETWEEN, Net)
    checkpoint = torch.load(tmp_path / f"{BETWEEN}.ckpt", weights_only=True)
    assert checkpoint["lightning_debugkit.ExactResume"][0]["attributes"] == {}
