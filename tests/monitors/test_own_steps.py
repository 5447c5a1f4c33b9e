"""Programs that step an optimizer themselves, and rates of 0: what trains is not called untrained."""

import contextlib
import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.optim import optimizer as optimizers
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import (
    GradientAnomalyDetector,
    GradientClippingMonitor,
    NestedCheckpoint,
    TrainingAnomaly,
    read_journal,
)
from lightning_debugkit.checkpoints import Latest

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]


class Net(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", nn.functional.mse_loss(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 1e-2)


class StepsItself(Net):
    """A plain loop pasted into ``training_step``, beside automatic optimization."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        loss = super().training_step(batch, batch_idx)
        self.optimizers().zero_grad()
        loss.backward()
        self.optimizers().step()


class RestsFirst(Net):
    """A warm-up by epochs whose first epoch has a rate of 0."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 1e-2)
        return [optimizer], [LambdaLR(optimizer, lambda epoch: min(1.0, epoch / 2))]


@pytest.mark.parametrize(
    ("module", "rule"), [(StepsItself, "no-loss"), (RestsFirst, "untrained-weights-validated")], ids=["own", "rest"]
)
def test_weights_that_train_are_not_called_untrained(module: type[Net], rule: str, tmp_path: Path):
    x = torch.randn(1280, 8)
    data = DataLoader(TensorDataset(x, x[:, :1]), 32)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    options = {"accelerator": "cpu", "max_epochs": 3, "default_root_dir": tmp_path, **quiet}
    pl.Trainer(callbacks=[GradientAnomalyDetector()], **options).fit(module(), data, data)
    assert rule not in [finding.rule for finding in read_journal(tmp_path / "debugkit").findings]


class SkipsInRows(Net):
    """A test the wrong way round lets two batches of forty train."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        return super().training_step(batch, batch_idx) if batch_idx % 20 == 0 else None


def test_what_trains_between_two_rows_without_a_loss_does_not_hide_the_second(tmp_path: Path) -> None:
    x = torch.randn(1280, 8)
    data = DataLoader(TensorDataset(x, x[:, :1]), 32)
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, default_root_dir=tmp_path, callbacks=[GradientAnomalyDetector()], **quiet
    )
    trainer.fit(SkipsInRows(), data)
    told = [found.message for found in read_journal(tmp_path / "debugkit").findings if found.rule == "no-loss"]
    assert told == ["training_step gave no loss in 38 of 40 batches of epoch 0: these batches train nothing"]


class Descent(torch.optim.Optimizer):
    """An optimizer of one's own that leaves the closure alone, as manual optimization lets it."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 1e-2})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter -= group["lr"] * parameter.grad


class Trusting(Descent):
    """Scales each step by the size of the weights, as LARS and LAMB do: 0/0 where both are 0."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        with torch.no_grad():
            for parameter in self.param_groups[0]["params"]:
                parameter -= 1e-2 * parameter.norm() / parameter.grad.norm() * parameter.grad


class Wrapping(torch.optim.Optimizer):
    """Reads the closure and does not call it."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 1e-2})
        self.inner = torch.optim.SGD(self.param_groups, 1e-2)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.inner.step() if closure is None or callable(closure) else None


class ByHand(Net):
    def __init__(self, kind: type[torch.optim.Optimizer], breaks: int = -1) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.kind, self.breaks = kind, breaks

    def training_step(self, batch: Any, batch_idx: int) -> None:
        loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
        if batch_idx == self.breaks:
            loss = loss + (batch[1] * 0).log().mean()
        self.optimizers().zero_grad()
        self.manual_backward(loss)
        self.optimizers().step()

    def configure_optimizers(self) -> Any:
        return self.kind(self.parameters())


def fit_by_hand(module: pl.LightningModule, folder: Path, watched: bool = True) -> dict[str, Any]:
    pl.seed_everything(1)
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(320, 8, generator=draw)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    options = {"accelerator": "cpu", "max_epochs": 1, "default_root_dir": folder, **quiet}
    callbacks = [GradientAnomalyDetector(), GradientClippingMonitor()] if watched else []
    pl.Trainer(callbacks=callbacks, **options).fit(module, DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), 32))
    return module.state_dict()


def fit_twice(make: Callable[[], pl.LightningModule], folder: Path) -> tuple[Any, Any]:
    """Fit from the same weights without and with the kit, which must end with the same; return both modules."""
    pl.seed_everything(1)
    first, second = make(), make()
    second.load_state_dict(first.state_dict())
    alone = fit_by_hand(first, folder / "alone", watched=False)
    watched = fit_by_hand(second, folder / "watched")
    assert all(torch.equal(alone[name], watched[name]) for name in alone)
    return first, second


@pytest.mark.parametrize("kind", [Descent, Wrapping])
def test_a_step_whose_optimizer_leaves_the_closure_alone_is_looked_at(kind: Any, tmp_path: Path):
    with pytest.raises(TrainingAnomaly) as raised:
        fit_by_hand(ByHand(kind, breaks=6), tmp_path)
    assert raised.value.finding.rule == "nonfinite-loss"
    assert "log(0) in training_step" in raised.value.finding.message
    assert raised.value.finding.where.step == 6
    assert len(read_journal(tmp_path / "debugkit").findings) == 1


@pytest.mark.parametrize(("kind", "steps"), [(Descent, 10), (Wrapping, 9), (torch.optim.SGD, 10)])
def test_a_healthy_run_with_such_an_optimizer_is_left_in_peace(kind: Any, steps: int, tmp_path: Path):
    fit_twice(lambda: ByHand(kind), tmp_path)
    events = read_journal(tmp_path / "watched" / "debugkit")
    assert events.findings == []
    assert events.of_kind("trouble") == []
    assert events.of_kind("end")[-1]["trained"] == steps


def test_what_such_an_optimizer_writes_is_its_own(tmp_path: Path):
    module = ByHand(Trusting)
    nn.init.zeros_(module.net[2].weight)
    with torch.no_grad():
        module.net[0].weight.zero_()  # its gradient is 0, too, as nothing comes through the zeros behind it
    with pytest.raises(TrainingAnomaly) as raised:
        fit_by_hand(module, tmp_path)
    assert raised.value.finding.rule == "optimizer-nonfinite"
    assert "step 0 of Trusting wrote nan into net.0.weight" in raised.value.finding.message
    assert len(read_journal(tmp_path / "debugkit").findings) == 1


class Past(ByHand):
    """Steps torch's own optimizer, past Lightning's class around it, which alone counts steps and announces them."""

    def __init__(self, way: str, breaks: int = -1) -> None:
        super().__init__(torch.optim.Adam, breaks)
        self.way = way

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        if self.way == "kept":
            return self.kept
        return self.trainer.optimizers[0] if self.way == "trainer" else super().optimizers(use_pl_optimizer=False)

    def configure_optimizers(self) -> Any:
        self.kept = self.kind(self.parameters())
        return None if self.way == "kept" else self.kept


WAYS = pytest.mark.parametrize("way", ["use_pl_optimizer", "trainer", "kept"])


@WAYS
def test_a_step_past_lightning_is_looked_at_and_counted(way: str, tmp_path: Path) -> None:
    module = Past(way, breaks=6)
    with pytest.raises(TrainingAnomaly) as raised:
        fit_by_hand(module, tmp_path)
    assert raised.value.finding.rule == "nonfinite-loss"
    assert "log(0) in training_step" in raised.value.finding.message
    assert raised.value.finding.where.step == 6
    assert all(bool(torch.isfinite(weight).all()) for weight in module.parameters())
    assert len(read_journal(tmp_path / "debugkit").findings) == 1


@WAYS
def test_a_healthy_run_past_lightning_is_left_in_peace(way: str, tmp_path: Path) -> None:
    fit_twice(lambda: Past(way), tmp_path)
    events = read_journal(tmp_path / "watched" / "debugkit")
    assert (events.findings, events.of_kind("trouble")) == ([], [])
    end = events.of_kind("end")[-1]
    assert (end["steps"], end["trained"]) == (10, 10)
    assert [event["step"] for event in events.of_kind("measure") if event["name"] == "loss"] == list(range(10))


class Generates(Past):
    """Two optimizers that Lightning does not know; one steps in every fifth batch."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
        self.manual_backward(loss)
        for place, optimizer in enumerate(self.both):
            if not place or batch_idx % 5 == 4:
                optimizer.step()
                optimizer.zero_grad()

    def configure_optimizers(self) -> None:
        self.both = [torch.optim.SGD(part.parameters(), 1e-2) for part in (self.net[0], self.net[2])]


def test_two_optimizers_of_ones_own_are_left_in_peace(tmp_path: Path) -> None:
    fit_by_hand(Generates("kept"), tmp_path)
    events = read_journal(tmp_path / "debugkit")
    assert (events.findings, events.of_kind("trouble")) == ([], [])
    assert events.of_kind("end")[-1]["steps"] == 12


class Minimizes(Past):
    """Gives its closure to torch's own LBFGS: its gradients are made within the step."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
            self.manual_backward(loss)
            return loss

        optimizer.step(closure)

    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), 0.1, max_iter=3)


def test_a_closure_that_is_given_past_lightning_is_left_in_peace(tmp_path: Path) -> None:
    fit_by_hand(Minimizes("use_pl_optimizer"), tmp_path)
    events = read_journal(tmp_path / "debugkit")
    assert (events.findings, events.of_kind("trouble")) == ([], [])
    assert events.of_kind("end")[-1]["steps"] == 10


def fit_past(module: pl.LightningModule, folder: Path, *callbacks: Any, epochs: int = 2, resume: Any = None) -> Any:
    x = torch.randn(320, 8, generator=torch.Generator().manual_seed(1))
    options: dict[str, Any] = {"max_epochs": epochs, "logger": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        accelerator="cpu", default_root_dir=folder, callbacks=[GradientAnomalyDetector(), *callbacks], **options
    )
    trainer.fit(module, DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), 32), ckpt_path=resume)
    return read_journal(folder / "debugkit")


@pytest.mark.parametrize(("module", "told"), [(Past("trainer"), 1), (ByHand(torch.optim.Adam), 0)])
def test_a_stock_checkpoint_that_waits_for_the_count_is_told(module: Any, told: int, tmp_path: Path) -> None:
    stock = pl.callbacks.ModelCheckpoint(tmp_path / "stock")
    found = fit_past(module, tmp_path, stock).findings
    assert [one.rule for one in found] == ["steps-not-counted"] * told
    assert all("10 steps were taken" in one.message and "ModelCheckpoint saves nothing" in one.message for one in found)
    assert bool(stock.best_model_path) is not bool(told)  # it does as is said


def test_our_own_checkpoints_count_such_steps_and_go_on_from_them(tmp_path: Path) -> None:
    rules = [Latest(n=3, every_n_steps=4)]
    events = fit_past(Past("trainer"), tmp_path / "first", NestedCheckpoint(tmp_path / "kept", rules=rules))
    assert (events.findings, events.of_kind("end")[-1]["steps"]) == ([], 20)
    steps = [re.search(r"step-0*(\d+)", path.name) for path in (tmp_path / "kept").glob("step-*.ckpt")]
    assert sorted(int(step[1]) for step in steps if step) == [12, 16, 20]
    resumed = fit_past(
        Past("trainer"), tmp_path / "second", NestedCheckpoint(tmp_path / "kept", rules=rules), epochs=3, resume="last"
    )
    assert (resumed.of_kind("resume")[-1]["step"], resumed.of_kind("end")[-1]["step"]) == (20, 30)


def test_a_checkpoint_that_counts_fewer_steps_is_gone_on_from_as_it_is(tmp_path: Path) -> None:
    """Whatever the Trainer that goes on from it has counted in a fit before."""
    module, kept = Past("trainer"), tmp_path / "kept.ckpt"
    x = torch.randn(320, 8, generator=torch.Generator().manual_seed(1))
    data = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), 32)
    options: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, default_root_dir=tmp_path, **options)
    trainer.fit(module, data)
    trainer.save_checkpoint(kept)  # nobody counted: none of its steps is known
    again = pl.Trainer(
        accelerator="cpu", max_epochs=2, default_root_dir=tmp_path, callbacks=[GradientAnomalyDetector()], **options
    )
    again.fit(module, data)
    again.fit_loop.max_epochs = 4
    again.fit(module, data, ckpt_path=kept)
    ends = [read_journal(folder).of_kind("end")[-1]["step"] for folder in sorted(tmp_path.glob("debugkit*"))]
    assert ends == [20, 30]


class Plain(Past):
    """Calls ``loss.backward()`` itself, of which Lightning tells nobody: what breaks is seen in the gradients."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
        if batch_idx == self.breaks:
            loss = loss + (self.net(batch[0]) * 0).log().mean()
        self.optimizers().zero_grad()
        loss.backward()
        self.optimizers().step()


@WAYS
def test_a_backward_by_hand_is_replayed_as_one(way: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingAnomaly) as raised:
        fit_by_hand(Plain(way, breaks=6), tmp_path)
    assert "log(0) in training_step" in raised.value.finding.message
    assert raised.value.finding.where.step == 6
    events = read_journal(tmp_path / "debugkit")
    assert (len(events.findings), events.of_kind("trouble")) == (1, [])


class Attacked(Plain):
    """Trains on the input moved along its gradient, which ``backward`` leaves on it."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        x = batch[0].clone().requires_grad_()
        nn.functional.mse_loss(self.net(x), batch[1]).backward()
        moved = (x + 0.01 * x.grad.sign()).detach()
        super().training_step([moved, batch[1]], batch_idx)


def test_an_attack_that_reads_the_gradient_of_the_input_is_replayed(tmp_path: Path) -> None:
    with pytest.raises(TrainingAnomaly) as raised:
        fit_by_hand(Attacked("kept", breaks=6), tmp_path)
    assert "log(0) in training_step" in raised.value.finding.message


class Idle(Past):
    """A part that the loss never uses, for which steps are run again."""

    def __init__(self, way: str) -> None:
        super().__init__(way)
        self.idle = nn.Linear(8, 8)


@WAYS
def test_a_step_that_is_run_again_leaves_optimizers_as_they_were(way: str, tmp_path: Path) -> None:
    first, second = fit_twice(lambda: Idle(way), tmp_path)
    found = [one.rule for one in read_journal(tmp_path / "watched" / "debugkit").findings]
    assert found == ([] if way == "kept" else ["no-gradient"])  # what a program keeps to itself is not asked for
    held = [list(module.kept.state.values()) for module in (first, second)]
    for one, other in zip(*held, strict=True):
        assert all(torch.equal(torch.as_tensor(one[key]), torch.as_tensor(other[key])) for key in one)


class Raises(Past):
    def training_step(self, batch: Any, batch_idx: int) -> None:
        super().training_step(batch, batch_idx)
        if batch_idx == 5:
            raise KeyError("a sample without a label")


@pytest.mark.parametrize("ends", [True, False])
def test_torchs_own_hooks_are_as_they_were_after_a_fit(ends: bool, tmp_path: Path) -> None:
    module = (Past if ends else Raises)("kept")
    with contextlib.nullcontext() if ends else pytest.raises(KeyError):
        fit_past(module, tmp_path, NestedCheckpoint(tmp_path / "kept", rules=[Latest()]))
    hooks = (optimizers._global_optimizer_pre_hooks, optimizers._global_optimizer_post_hooks)
    assert [len(each) for each in hooks] == [0, 0]
    assert [len(each._optimizer_step_post_hooks) for each in (module.kept,)] == [0]


class Window(Net):
    """Steps once in so many batches of its ten, and clears what is left of an epoch."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.window = window

    def on_train_epoch_start(self) -> None:
        self.optimizers().zero_grad()

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.manual_backward(nn.functional.mse_loss(self.net(batch[0]), batch[1]) / self.window)
        if (batch_idx + 1) % self.window == 0:
            self.optimizers().step()
            self.optimizers().zero_grad()


@pytest.mark.parametrize(("window", "told"), [(16, ["parameter-not-updated"]), (4, []), (10, [])])
def test_a_window_that_is_longer_than_an_epoch_never_steps(window: int, told: list[str], tmp_path: Path):
    x = torch.randn(320, 8, generator=torch.Generator().manual_seed(1))
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    options: dict[str, Any] = {"accelerator": "cpu", "max_epochs": 4, "default_root_dir": tmp_path, **quiet}
    fit = pl.Trainer(callbacks=[GradientAnomalyDetector()], **options).fit
    fit(Window(window), DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), 32))
    found = read_journal(tmp_path / "debugkit").findings
    assert [one.rule for one in found] == told
    assert all("one of every so many batches, no batch of an epoch has met it" in one.advice for one in found)


class CopiesStates(ByHand):
    """Copies what callbacks keep in mid-fit, but for what Lightning itself puts there."""

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        for each in self.trainer.callbacks if batch_idx == 3 else ():
            if isinstance(each, GradientAnomalyDetector | GradientClippingMonitor):
                copy.deepcopy({name: held for name, held in each.__getstate__().items() if name not in LIGHTNINGS})

    def __deepcopy__(self, memo: Any) -> Any:
        raise AssertionError("the module was copied")


LIGHTNINGS = ("log", "log_dict")


def test_what_listens_to_a_fit_stays_with_it_when_a_callback_is_copied(tmp_path: Path) -> None:
    fit_by_hand(CopiesStates(torch.optim.SGD), tmp_path)
