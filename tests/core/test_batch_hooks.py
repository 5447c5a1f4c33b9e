"""What a batch costs beside the hooks themselves: the Trainer calls none in which nothing is left to do."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.profilers import Profiler
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import ActivationMonitor, GradientClippingMonitor, PreflightCheck, debugkit, read_journal

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]

STEPS = 60
NEEDED = {
    "GradientAnomalyDetector": {
        "on_train_batch_start", "on_before_backward", "on_after_backward", "on_before_optimizer_step",
        "on_train_batch_end",
    },
    "GradientClippingMonitor": {"on_before_optimizer_step"},
    "ActivationMonitor": {"on_train_batch_start"},
}  # fmt: skip


class Calls(Profiler):
    """Counts the hooks of callbacks that the Trainer calls, batch by batch."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Counter[tuple[str, str]]] = []

    def start(self, action_name: str) -> None:
        if action_name == "run_training_batch":
            self.batches.append(Counter())
        if action_name.startswith("[Callback]") and self.batches:
            self.batches[-1][tuple(action_name.removeprefix("[Callback]").split("."))] += 1

    def stop(self, action_name: str) -> None:
        pass


class Net(pl.LightningModule):
    def __init__(self, raises: bool = False) -> None:
        super().__init__()
        self.net = nn.Linear(4, 2)
        self.raises = raises

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.raises and self.global_step == 30:
            raise RuntimeError("the user's own")
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.01)


def fit(folder: Path, callbacks: list[Any], module: Net | None = None, **options: Any) -> None:
    torch.manual_seed(0)
    data = DataLoader(TensorDataset(torch.randn(8 * STEPS // 3, 4), torch.randint(0, 2, (8 * STEPS // 3,))), 8)
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        max_epochs=3, accelerator="cpu", default_root_dir=folder, callbacks=[*callbacks], **quiet, **options
    )
    trainer.fit(Net() if module is None else module, data)


def test_a_steady_batch_calls_only_the_hooks_that_do_something(tmp_path: Path) -> None:
    calls = Calls()
    fit(tmp_path, debugkit(), profiler=calls)
    steady = calls.batches[STEPS - 8]
    found: dict[str, set[str]] = {}
    for name, hook in steady:
        found.setdefault(name, set()).add(hook)
    assert {name: hooks for name, hooks in found.items() if name in {type(c).__name__ for c in debugkit()}} == NEEDED


def test_all_hooks_are_back_behind_a_fit_and_behind_one_that_raised(tmp_path: Path) -> None:
    callbacks = debugkit()
    usual = [dir(each) for each in callbacks]
    fit(tmp_path / "first", callbacks)
    with pytest.raises(RuntimeError, match="own"):
        fit(tmp_path / "second", callbacks, Net(raises=True))
    for each, names in zip(callbacks, usual, strict=True):
        assert [name for name in names if name.startswith("on_") and not callable(getattr(each, name))] == []


def test_a_second_fit_looks_again_at_what_the_first_was_done_with(tmp_path: Path) -> None:
    monitor, check = ActivationMonitor(), PreflightCheck()
    for name in ("first", "second"):
        fit(tmp_path / name, [monitor, check])
    losses, looks = [], []
    for name in ("first", "second"):
        measures = read_journal(tmp_path / name / "debugkit")
        losses.append([each["value"]["losses"] for each in measures if each.get("name") == "preflight"])
        looks.append([each["step"] for each in measures if each.get("name") == "activation-scale"])
    assert losses[0] == losses[1]
    assert losses[0][0]
    assert looks[0] == looks[1]
    assert len(looks[0]) > 1


def test_what_somebody_has_put_in_the_place_of_a_hook_is_called_to_the_end(tmp_path: Path) -> None:
    monitor = GradientClippingMonitor()
    heard: list[str] = []
    monitor.on_before_zero_grad = lambda *args: heard.append("zero")  # type: ignore[method-assign]
    fit(tmp_path, [monitor])
    assert len(heard) == STEPS


class Composite(pl.Callback):
    """Hands every hook on to callbacks that the Trainer does not know."""

    def __init__(self, *inner: pl.Callback) -> None:
        self.inner = inner

    def setup(self, *args: Any, **kwargs: Any) -> None:
        self._each("setup", *args, **kwargs)

    def on_train_start(self, *args: Any) -> None:
        self._each("on_train_start", *args)

    def on_train_batch_start(self, *args: Any) -> None:
        self._each("on_train_batch_start", *args)

    def on_before_zero_grad(self, *args: Any) -> None:
        self._each("on_before_zero_grad", *args)

    def on_train_batch_end(self, *args: Any) -> None:
        self._each("on_train_batch_end", *args)

    def _each(self, hook: str, *args: Any, **kwargs: Any) -> None:
        for each in self.inner:
            getattr(each, hook)(*args, **kwargs)


def test_a_callback_of_the_users_that_hands_hooks_on_can_call_all_of_them(tmp_path: Path) -> None:
    fit(tmp_path, [Composite(PreflightCheck(), ActivationMonitor(), GradientClippingMonitor())])
