"""Listening to a step leaves torch's modes to whoever entered them, and compiled code as it was compiled."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from monitors.breaking import QUIET
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import BiasVarianceReport, ErrorAnalysis, read_journal

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]


class Counting(TorchFunctionMode):
    """A user's own mode."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += getattr(func, "__name__", "") == "cross_entropy"
        return func(*args, **(kwargs or {}))


class OverHooks(pl.Callback):
    """It holds its mode from the start of a batch to its end, of training and of validation."""

    def __init__(self) -> None:
        self.mode, self.seen = Counting(), 0

    def _enter(self, *_: Any) -> None:
        self.mode.__enter__()

    def _leave(self, *_: Any) -> None:
        assert _get_current_function_mode_stack()[-1] is self.mode
        self.mode.__exit__(None, None, None)

    on_train_batch_start = on_validation_batch_start = _enter
    on_train_batch_end = on_validation_batch_end = _leave


class Model(pl.LightningModule):
    def __init__(self, net: nn.Module | None = None, how: str = "loss") -> None:
        super().__init__()
        self.net, self.how = nn.Linear(4, 3) if net is None else net, how

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        scores = self(batch[0]) if self.how == "forward" else self.net(batch[0])
        loss = F.cross_entropy(scores, batch[1])
        return {"loss": loss, "logits": scores.detach(), "target": batch[1]} if self.how == "returned" else loss

    validation_step = training_step

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.01)


def data() -> DataLoader[Any]:
    draw = torch.Generator().manual_seed(0)
    return DataLoader(TensorDataset(torch.randn(64, 4, generator=draw), torch.randint(0, 3, (64,), generator=draw)), 8)


def fit(folder: Path, module: Model, *callbacks: pl.Callback) -> None:
    options = {**QUIET, "max_epochs": 3}
    pl.Trainer(default_root_dir=folder, callbacks=list(callbacks), **options).fit(module, data(), data())


def watchers() -> list[pl.Callback]:
    return [ErrorAnalysis(training_dynamics=True), BiasVarianceReport()]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("how", ["loss", "forward", "returned"])
def test_a_users_own_mode_over_the_same_hooks_hears_every_step(how: str, first: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    alone, beside = OverHooks(), OverHooks()
    fit(tmp_path / "alone", Model(how=how), alone)
    callbacks = [beside, *watchers()] if first else [*watchers(), beside]
    fit(tmp_path / "beside", Model(how=how), *callbacks)
    # Steps that are run once more to be read are the kit's own: they may be heard, too.
    assert alone.mode.calls == 8 * 3 * 2 + 2
    assert beside.mode.calls >= alone.mode.calls
    assert _get_current_function_mode_stack() == []
    journal = read_journal(tmp_path / "beside" / "debugkit")
    assert not journal.of_kind("trouble")
    assert (tmp_path / "beside" / "debugkit" / "errors.json").exists()


@pytest.mark.parametrize("what", ["submodule", "method", "function"])
@pytest.mark.parametrize("how", ["loss", "forward", "returned"])
def test_no_compiled_code_is_compiled_anew(
    how: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def graphs(folder: Path, *callbacks: pl.Callback) -> int:
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        module = Model(torch.compile(net, backend="eager") if what == "submodule" else net, how)
        if what == "method":
            module.net.forward = torch.compile(net.forward, backend="eager")
        elif what == "function":
            kind = type("Compiled", (Model,), {"forward": torch.compile(Model.forward, backend="eager")})
            module = kind(net, "forward")
        fit(folder, module, *callbacks)
        return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])

    alone = graphs(tmp_path / "alone")
    assert alone > 0
    assert graphs(tmp_path / "watched", *watchers()) == alone
    assert (tmp_path / "watched" / "debugkit" / "errors.json").exists()
    assert (tmp_path / "watched" / "debugkit" / "bias_variance.json").exists()
    torch._dynamo.reset()


def test_the_counts_of_a_compiled_model_are_those_of_the_same_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Linear(4, 3)
    texts = []
    for name, part in (("plain", net), ("compiled", torch.compile(net, backend="eager"))):
        options = {**QUIET, "max_epochs": 1}
        trainer = pl.Trainer(default_root_dir=tmp_path / name, callbacks=[ErrorAnalysis()], **options)
        trainer.validate(Model(part), data(), verbose=False)
        texts.append((tmp_path / name / "debugkit" / "misclassified.csv").read_text())
    assert texts[0] == texts[1]
    assert "each batch is run once more" in (tmp_path / "compiled" / "debugkit" / "errors.json").read_text()


def test_a_module_is_pickled_within_its_step_without_what_listens(tmp_path: Path) -> None:
    class Saving(Model):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            trainer, self._trainer = self._trainer, None
            held = pickle.loads(pickle.dumps(self.net))
            kept = {name for name in vars(self) if name in ("validation_step", "training_step", "forward")}
            self._trainer = trainer
            assert kept <= {"validation_step"}
            return super().training_step(batch, batch_idx) if held is not None else None

    module = Saving()
    fit(tmp_path, module, *watchers())
    assert not {"validation_step", "training_step", "forward"} & vars(module).keys()


def test_what_fails_while_a_call_is_noted_does_not_reach_the_step(tmp_path: Path) -> None:
    class Odd(Tensor):
        def detach(self) -> Tensor:
            raise RuntimeError("nobody may ask for that")

    class OfOdd(Model):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            scores = self.net(batch[0])
            F.cross_entropy(scores.as_subclass(Odd), batch[1])
            return F.cross_entropy(scores, batch[1])

    fit(tmp_path, OfOdd(), ErrorAnalysis(on_missing="warn"), BiasVarianceReport(on_missing="warn"))
