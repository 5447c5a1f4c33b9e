"""Promises that every callback of the kit keeps, whatever it does."""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import io
import pickle
import pkgutil
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from monitors.breaking import differing, fit, make

import lightning_debugkit
from lightning_debugkit import read_journal
from lightning_debugkit.core.callback import DebugCallback

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")

# Arguments that are not the default, one set a callback: all of its parameters.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "ActivationMonitor": {"every_n_steps": 7},
    "BiasVarianceReport": {
        "goal": {"val_mae": 0.3},
        "metric": "val_mae",
        "maximize": False,
        "train_dev": 0.1,
        "train_samples": 100,
        "train_loader": "plain_dataloader",
        "every_n_epochs": 2,
        "roles": ["val", "train_dev"],
        "trials": 20,
        "interval": "exact",
        "group": "patient",
        "predictions": "scores",
        "target": "truth",
        "adapter": "operator.getitem",
        "on_missing": "warn",
    },
    "CodeSnapshot": {
        "note": "is a deeper head worth it?",
        "label": "e1.1",
        "side_ref": False,
        "include": ["*.json"],
        "max_file": 1000,
        "max_bundle": 2000,
        "timeout": 5.0,
        "export": True,
    },
    "Preset": {
        "preset": "light",
        "on_finding": "operator.attrgetter",
        "loggers": "none",
        "ignore": ["clipping-never"],
        "options": {"action": "warn"},
    },
    "Reporting": {"on_finding": "operator.attrgetter", "loggers": "all", "ignore": ["clipping-never"]},
    "ErrorAnalysis": {
        "class_names": ["cat", "dog"],
        "task": "binary",
        "slices": ["camera"],
        "loaders": [0],
        "training_dynamics": True,
        "pictures": 5,
        "max_samples": 1000,
        "predictions": "scores",
        "target": "truth",
        "adapter": "operator.getitem",
        "on_missing": "warn",
    },
    "GradientAnomalyDetector": {
        "action": "skip",
        "max_skips": 3,
        "hooks": "always",
        "wiring": False,
        "bundle": False,
        "max_bundle": 2000,
    },
    "GradientClippingMonitor": {"every_n_steps": 3, "percentile": 75.0, "auto_threshold": True},
    "DataCheck": {"neighbours": False, "samples": 500, "baseline": True},
    "PreflightCheck": {"extra_passes": False, "overfit_batch": True},
    "ExactResume": {"rewind": False},
    "NestedCheckpoint": {
        "dirpath": str(Path(tempfile.gettempdir(), "lightning-debugkit-contract")),
        "rules": ["Every(steps=3)", "Latest(n=2)"],
        "monitor": "val_loss",
        "mode": "max",
        "top_k": 2,
        "save_weights_only": True,
        "async_save": True,
        "save_on_exception": True,
        "raise_after": 3,
        "fsync": False,
    },
}


def found() -> dict[str, type[DebugCallback]]:
    """Every callback declared in a module of the package."""
    classes = {}
    for package in (lightning_debugkit,):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            for name, item in vars(importlib.import_module(module.name)).items():
                own = inspect.isclass(item) and issubclass(item, DebugCallback) and item is not DebugCallback
                # What callbacks of the kit derive from is no callback of its own.
                if (
                    own
                    and not any(kind.__module__.startswith("lightning_debugkit") for kind in item.__subclasses__())
                    and item.__module__.startswith(package.__name__)
                ):
                    classes[name] = item
    return classes


CALLBACKS = found()
every = pytest.mark.parametrize("kind", CALLBACKS.values(), ids=CALLBACKS)


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DebugCallback, "_render", lambda self, run: None)


def parameters(kind: type[DebugCallback]) -> list[str]:
    return [name for name in inspect.signature(kind).parameters if name != "self"]


def arguments(kind: type[DebugCallback]) -> dict[str, Any]:
    given = ARGUMENTS[kind.__name__]
    assert sorted(given) == sorted(parameters(kind)), "the table above has every argument"
    defaults = {name: item.default for name, item in inspect.signature(kind).parameters.items()}
    assert [name for name, value in given.items() if value == defaults[name]] == []
    return given


def test_the_walk_finds_the_callbacks() -> None:
    assert set(CALLBACKS) == set(ARGUMENTS)


@every
def test_arguments_are_kept_verbatim(kind: type[DebugCallback]) -> None:
    callback = kind(**arguments(kind))
    assert {name: getattr(callback, name) for name in parameters(kind)} == arguments(kind)


@every
@pytest.mark.parametrize("change", [lambda x: x, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_repr_builds_the_same_callback(kind: type[DebugCallback], change: Any) -> None:
    callback = kind(**arguments(kind))
    built = eval(repr(change(callback)), {kind.__name__: kind})
    assert {name: getattr(built, name) for name in parameters(kind)} == arguments(kind)
    assert repr(built) == repr(callback)


@every
def test_every_argument_is_documented(kind: type[DebugCallback]) -> None:
    """LightningCLI reads the help of each from ``Args:``."""
    args = inspect.cleandoc(kind.__doc__ or "").partition("Args:\n")[2].partition("\n\n")[0]
    documented = re.findall(r"^    (\w+): \S", args, flags=re.MULTILINE)
    assert documented == parameters(kind)


@every
def test_every_argument_has_a_default(kind: type[DebugCallback]) -> None:
    kind()


@functools.cache
def unwatched(**options: Any) -> pl.LightningModule:
    """The module as a fit without any callback leaves it; it writes nothing."""
    module = make()
    fit(module, Path(tempfile.gettempdir()), **options)
    return module


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[type[DebugCallback]], DebugCallback]:
    """Returns a callback of a kind that has seen a fit, the same one each time."""

    @functools.cache
    def fitted(kind: type[DebugCallback]) -> DebugCallback:
        callback = kind()
        fit(make(), tmp_path_factory.mktemp(kind.__name__), callback)
        return callback

    return fitted


@every
def test_state_survives_a_checkpoint_of_weights_only(kind: type[DebugCallback], fitted: Any) -> None:
    state = fitted(kind).state_dict()
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    assert torch.load(file, weights_only=True) == state

    again = kind()
    again.load_state_dict(copy.deepcopy(state))
    assert again.state_dict() == state


@every
def test_the_state_of_an_older_version_is_taken(kind: type[DebugCallback]) -> None:
    callback = kind()
    callback.load_state_dict({})
    assert callback.state_dict() == kind().state_dict()


@every
def test_a_fitted_callback_can_be_pickled_and_copied(kind: type[DebugCallback], fitted: Any) -> None:
    callback = fitted(kind)
    assert pickle.loads(pickle.dumps(callback)).state_dict() == callback.state_dict()
    assert copy.deepcopy(callback).state_dict() == callback.state_dict()


HOOKS = [name for name in vars(pl.Callback) if name.startswith("on_") or name in ("setup", "teardown")]


@every
def test_every_hook_is_guarded(kind: type[DebugCallback]) -> None:
    own = [name for name in HOOKS if getattr(kind, name) is not getattr(pl.Callback, name)]
    own = [name for name in own if name not in ("on_save_checkpoint", "on_load_checkpoint")]
    assert own
    ours = [name for name in own if getattr(kind, name) is not getattr(DebugCallback, name)]
    assert [name for name in ours if not getattr(getattr(kind, name), "_guarded", False)] == []


def broken_hooks(kind: type[DebugCallback]) -> list[str]:
    """The hooks of its own that a fit calls before its end."""
    called = ("on_fit_start", "on_train_start", "on_train_epoch_start", "on_train_batch_start", "on_before_backward")
    called += ("on_after_backward", "on_before_optimizer_step", "on_before_zero_grad", "on_train_batch_end")
    called += ("on_train_epoch_end", "on_train_end", "teardown")
    return [name for name in called if name in vars(kind)]


@pytest.mark.parametrize(
    ("kind", "hook"),
    [pytest.param(kind, hook, id=f"{name}-{hook}") for name, kind in CALLBACKS.items() for hook in broken_hooks(kind)],
)
def test_a_fault_of_the_kit_is_an_event_and_changes_nothing(
    kind: type[DebugCallback], hook: str, tmp_path: Path
) -> None:
    def fails(self: Any, *args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError("a fault of ours")

    broken = type(f"Failing{kind.__name__}", (kind,), {hook: fails})  # a second class of one name is ambiguous in YAML
    watched = make()
    clipped = {"gradient_clip_val": 0.1}  # three hooks rest in a fit that is not clipped
    trainer = fit(watched, tmp_path / "watched", broken(), **clipped)

    assert (trainer.state.finished, differing(unwatched(**clipped), watched)) == (True, [])
    troubles = read_journal(tmp_path / "watched/debugkit").of_kind("trouble")
    ours = [event for event in troubles if event["hook"] == hook]
    assert 1 <= len(ours) <= 3
    assert ours[0]["error"] == "ZeroDivisionError: a fault of ours"
    assert ours[0]["at"][-1].endswith("in fails")


@every
def test_a_fault_in_setup_is_guarded_too(kind: type[DebugCallback], tmp_path: Path, monkeypatch: Any) -> None:
    """Without a run folder there is no journal: the fit goes on all the same."""

    def fails(*args: Any) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr("lightning_debugkit.core.callback.open_run", fails)
    watched = make()
    trainer = fit(watched, tmp_path / "watched", kind())
    assert (trainer.state.finished, differing(unwatched(), watched)) == (True, [])


class Watch(pl.Callback):
    """Keeps gradients before each step, and batches after it."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        self.seen.append([p.grad.clone() for p in module.parameters()])

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append([part.clone() for part in batch])


@pytest.fixture(scope="module")
def seen_alone(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    watch = Watch()
    fit(make(), tmp_path_factory.mktemp("alone"), watch)
    return watch.seen


@every
def test_the_batch_and_its_gradients_are_left_alone(
    kind: type[DebugCallback], seen_alone: list[Any], tmp_path: Path
) -> None:
    watch = Watch()
    fit(make(), tmp_path, kind(), watch)
    assert len(seen_alone) == len(watch.seen)
    for one, other in zip(seen_alone, watch.seen, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@every
def test_two_fits_of_one_callback_find_alike(kind: type[DebugCallback], tmp_path: Path) -> None:
    """A callback can be given to a second Trainer."""
    callback = kind()
    told = []
    for name in ("one", "two"):
        fit(make(), tmp_path / name, callback)
        events = read_journal(tmp_path / name / "debugkit")
        assert [end["status"] for end in events.of_kind("end")] == ["finished"]
        assert events.of_kind("trouble") == []
        told.append([(finding.rule, finding.message) for finding in events.findings])
    assert told[0] == told[1]
    assert told[0] == []


def test_every_public_callback_is_walked() -> None:
    public = [getattr(lightning_debugkit, name) for name in lightning_debugkit.__all__]
    kinds = [item for item in public if inspect.isclass(item) and issubclass(item, pl.Callback)]
    assert set(kinds) == set(CALLBACKS.values())
