"""A model that is pickled or copied in training takes nothing of the kit with it, whatever hooks stand on it."""

from __future__ import annotations

import copy
import functools
import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging
from monitors.breaking import Net, data, differing, fit, make
from torch import Tensor, nn

from lightning_debugkit import ExactResume, debugkit, read_journal
from lightning_debugkit.core.compat import is_param_in_hook_signature
from lightning_debugkit.core.patching import Hearing, StandIn
from lightning_debugkit.replay.module_hooks import ModuleHooks

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")

KIT = b"lightning_debugkit"


def logged(step: Any) -> Any:
    @functools.wraps(step)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        return step(*args, **kwargs)

    return decorated


class OneArgument(Net):
    """Steps that take the batch alone, behind a decorator that takes anything."""

    @logged
    def training_step(self, batch: Any) -> Any:
        return super().training_step(batch, 0)

    @logged
    def validation_step(self, batch: Any) -> None:
        self.log("val_loss", super().training_step(batch, 0))


@pytest.mark.parametrize("preset", ["standard", "thorough"])
def test_lightning_reads_the_arguments_of_a_step_off_all_that_stands_on_it(preset: str, tmp_path: Path):
    pl.seed_everything(1)
    options: Any = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "max_epochs": 2}
    module = OneArgument()
    others = [StandIn(module, "training_step", module.training_step)]
    others[0].stand()
    trainer = pl.Trainer(default_root_dir=tmp_path, accelerator="cpu", callbacks=debugkit(preset), **options)
    trainer.fit(module, data(), data())
    assert trainer.global_step > 0
    assert read_journal(tmp_path / "debugkit").of_kind("trouble") == []


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_what_stands_on_a_step_shows_the_arguments_of_the_step(layers: int):
    module = OneArgument()
    for _ in range(layers):
        StandIn(module, "training_step", module.training_step).stand()
    assert not is_param_in_hook_signature(module.training_step, "batch_idx", min_args=2)
    assert is_param_in_hook_signature(module.training_step, "batch")


def hooks_on(module: nn.Module) -> list[str]:
    """The kinds of hook that stand on any part of ``module``."""
    return [
        kind
        for part in module.modules()
        for kind in ("_forward_hooks", "_forward_pre_hooks")
        if any(getattr(part, kind).values())
    ]


class Copied(Net):
    """Pickles and copies itself and its strategy at every moment there is, and keeps what it found."""

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["seen"] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "seen": {}}

    def forward(self, x: Tensor) -> Tensor:
        self.look("forward")
        return self.net(x)

    def look(self, moment: str) -> None:
        if moment in self.seen:
            return
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # torch warns about hooks of tensors that are not saved
            torch.save(self, file)
        strategy = copy.deepcopy(self.trainer.strategy)
        self.seen[moment] = {
            "pickle": KIT in pickle.dumps(self) or KIT in file.getvalue(),
            "copy": KIT in pickle.dumps(copy.deepcopy(self)),
            "strategy": [name for name, value in vars(strategy).items() if isinstance(value, StandIn)],
        }

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.look("training_step")
        x, y = batch
        loss = (self(x) - y).square().mean()
        self.look("loss")
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.look("validation_step")
        loss = (self(batch[0]) - batch[1]).square().mean()
        self.log("val_loss", loss)
        return loss

    def val_dataloader(self) -> Any:
        return data(16)

    def on_train_start(self) -> None:
        self.look("on_train_start")

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.look("on_before_optimizer_step")

    def on_train_batch_end(self, *args: Any) -> None:
        self.look("on_train_batch_end")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.look("on_save_checkpoint")


class Fitted(pl.Callback):
    """Looks at moments that come to callbacks only."""

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        pl_module.look("setup")

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        pl_module.look("on_train_batch_start")


def test_nothing_of_the_kit_is_pickled_or_copied_with_a_model_at_any_moment(tmp_path: Path) -> None:
    module = Copied()
    kit = [*debugkit("thorough", goal={"val_loss": 0.0}, metric="val_loss", maximize=False), ExactResume()]
    fit(module, tmp_path, *kit, Fitted(), ModelCheckpoint(tmp_path))
    assert {"setup", "training_step", "forward", "loss", "on_save_checkpoint"} <= module.seen.keys()
    assert {moment: found for moment, found in module.seen.items() if any(found.values())} == {}


class WithNet(Net):
    """The form of the usual templates: the network is an argument, and a hyper-parameter."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.net = net


def with_net() -> WithNet:
    return WithNet(make().net)


def test_a_module_among_the_hyperparameters_is_saved_as_it_would_be_without_the_kit(tmp_path: Path) -> None:
    saved = []
    for name, kit in (("alone", []), ("watched", debugkit("thorough"))):
        module = with_net()
        fit(module, tmp_path / name, *kit, ModelCheckpoint(tmp_path / name, filename="last"))
        saved.append(torch.load(tmp_path / name / "last.ckpt", weights_only=False))
    alone, watched = (pickle.dumps(checkpoint["hyper_parameters"]["net"]) for checkpoint in saved)
    assert (len(alone), KIT in watched) == (len(watched), False)
    assert all(torch.equal(saved[0]["state_dict"][key], saved[1]["state_dict"][key]) for key in saved[0]["state_dict"])


class Teacher(Net):
    """A copy of the network that is made in the first step follows it from there, and is run in each step."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if "teacher" not in vars(self):
            self.__dict__["teacher"] = copy.deepcopy(self.net)
        self.counts = [*getattr(self, "counts", []), len(hooks_on(self.teacher))]
        x, y = batch
        answer = self.net(x)
        with torch.no_grad():
            for own, theirs in zip(self.teacher.parameters(), self.net.parameters(), strict=True):
                own.lerp_(theirs, 0.1)
        return (answer - y).square().mean() + (answer - self.teacher(x).detach()).square().mean()


def test_a_teacher_that_is_copied_in_training_has_no_hooks(tmp_path: Path) -> None:
    alone, watched = (pl.seed_everything(11, verbose=False) and Teacher() for _ in range(2))
    fit(alone, tmp_path / "alone")
    fit(watched, tmp_path / "watched", *debugkit("thorough"))
    assert (set(watched.counts), differing(alone, watched)) == ({0}, [])


def test_weights_are_averaged_as_without_the_kit(tmp_path: Path) -> None:
    alone, watched = make(), make()
    fit(alone, tmp_path / "alone", StochasticWeightAveraging(1e-2), max_epochs=4)
    fit(watched, tmp_path / "watched", *debugkit("thorough"), StochasticWeightAveraging(1e-2), max_epochs=4)
    assert differing(alone, watched) == []
    assert read_journal(tmp_path / "watched" / "debugkit").of_kind("trouble") == []


def test_a_copy_of_a_watched_model_is_not_heard() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    hooks = ModuleHooks(model)
    copy.deepcopy(model)(torch.ones(2, 4))
    assert hooks.activations == []
    hooks.remove()


class Query(nn.Module):
    """A part whose output is its own parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self) -> Tensor:
        return self.weight


def test_a_parameter_that_is_returned_keeps_no_hook_from_step_to_step() -> None:
    model = nn.Sequential(Query())
    hooks = ModuleHooks(model)
    for _ in range(3):
        model[0]().sum().backward()
        assert len(hooks.gradients) == 1
        hooks.clear()
    assert not model[0].weight._backward_hooks
    hooks.remove()


class Jagged(nn.Module):
    """Its output cannot be summed in 32 bits."""

    def forward(self, x: Tensor) -> Tensor:
        return x.to_sparse_csr()


def test_an_output_that_cannot_be_summed_does_not_end_the_step() -> None:
    model = nn.Sequential(Jagged(), nn.Identity())
    hooks = ModuleHooks(model)
    model(torch.eye(3))
    hooks.remove()


def test_a_compiled_part_warns_of_no_hook_and_keeps_its_weights(tmp_path: Path) -> None:
    """torch warns at each call of a compiled module while one hook listens to all modules."""
    alone, watched = make(), make()
    for module in (alone, watched):
        module.net[0] = torch.compile(module.net[0], backend="eager")
    fit(alone, tmp_path / "alone")
    before = list(warnings.filters)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*global hooks")
        fit(watched, tmp_path / "watched", *debugkit("thorough"))
    assert differing(alone, watched) == []
    assert warnings.filters == before


def test_a_compiled_model_runs_compiled_while_its_modules_are_heard() -> None:
    """A hook that the compiler cannot take leaves the whole model eager: no graph at all."""
    graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    compiled = torch.compile(model, backend=backend)
    torch._dynamo.reset()
    hooks = ModuleHooks(nn.ModuleList([compiled]))
    try:
        compiled(torch.ones(4, 2))
    finally:
        hooks.remove()
    assert len(graphs) == 1
    assert [name for name, _ in hooks.activations] == []


def test_a_compiled_part_is_compiled_once_however_often_modules_are_heard() -> None:
    """Compiled code holds for the hooks that there were, by their keys."""
    graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    model = nn.Sequential(torch.compile(nn.Linear(2, 3), backend=backend), nn.Tanh())
    heard: list[str] = []
    before = dict(torch.nn.modules.module._global_forward_hooks)
    for names in (["a"], ["b", "c"], ["d"]):
        hearings = [Hearing([model[1]], lambda *_, name=name: heard.append(name)) for name in names]
        model(torch.ones(4, 2))
        for hearing in (*hearings, *hearings):
            hearing.remove()
        assert dict(torch.nn.modules.module._global_forward_hooks) == before
    assert (len(graphs), heard) == (1, ["a", "b", "c", "d"])
