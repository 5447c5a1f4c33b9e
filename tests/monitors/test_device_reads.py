"""What a step reads from the device: once, whatever the precision, the accumulation and the kind of rate."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from monitors.breaking import QUIET
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import ActivationMonitor, debugkit

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]

# Each makes the host wait for the device. On a CPU they only look as if.
READS = (
    "item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__", "__contains__", "nonzero",
    "equal", "allclose", "unique", "masked_select",
)  # fmt: skip
FUNCTIONS = ("equal", "allclose", "nonzero", "is_nonzero", "unique", "masked_select")
STEPS = 20  # of an epoch
# Of the third epoch, behind its begin and the first steps, and away from each fiftieth, which is looked at closely.
STEADY = range(44, 50)


class Reads:
    """Counts what the kit itself asks of tensors; what was copied to the host is asked for nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.places: list[str] = []
        self._inside = False
        for owner, names in ((Tensor, READS), (torch, FUNCTIONS)):
            for name in names:
                monkeypatch.setattr(owner, name, self._counted(name, getattr(owner, name)))

    def _counted(self, name: str, ask: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*args: Any, **kwargs: Any) -> Any:
            here = args[0] if args and isinstance(args[0], Tensor) else None
            if self._inside or here is None or getattr(here, "is_on_host", False) or not (place := _in_kit()):
                return ask(*args, **kwargs)
            self.places.append(f"{name} at {place}")
            self._inside = True
            try:
                found = ask(*args, **kwargs)
            finally:
                self._inside = False
            if name == "cpu":
                found = found.detach()  # on a CPU it would be the tensor itself
                found.is_on_host = True
            return found

        return asked


def _in_kit() -> str:
    """The line of the kit that asks, empty if it is torch or Lightning for its own sake."""
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if "lightning_debugkit" in file and "site-packages" not in file:
            return f"{Path(file).name}:{frame.f_lineno}"
        if "site-packages" in file and "/torch/" not in file:
            return ""
        frame = frame.f_back
    return ""


class Net(pl.LightningModule):
    # Of many narrow layers on a CPU, all entries are copied; the norms of wide ones are made where they lie.
    def __init__(self, make: Callable[[nn.Module], Any], optimizers: int = 1, width: int = 256) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(8, width), nn.Linear(width, 2)
        self.more = nn.Sequential(*(nn.Linear(8, 8) for _ in range(8 if width == 8 else 0)))
        self.make = make
        self.automatic_optimization = optimizers == 1

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self.head(torch.tanh(self.more(self.body(x)))), y)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        if self.automatic_optimization:
            return self.loss(batch)
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()
        return None

    def configure_optimizers(self) -> Any:
        return self.make(self)


class Counter(pl.Callback):
    """Counts reads by batch, and how often an optimizer asked for a step."""

    def __init__(self, reads: Reads, watching: list[Any]) -> None:
        self.reads = reads
        self.monitor = next(each for each in watching if isinstance(each, ActivationMonitor))
        self.batches: list[tuple[int, int, list[str]]] = []  # step at its end, times asked, reads
        self.asked = 0
        self.is_looked_at = False  # this batch's activations

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        self.is_looked_at = self.monitor._looks.last == trainer.global_step

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        self.asked += 1

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if not self.is_looked_at:
            self.batches.append((trainer.global_step, self.asked, list(self.reads.places)))
        self.asked, self.reads.places = 0, []


def sgd(module: nn.Module) -> Optimizer:
    return SGD(module.parameters(), lr=0.01)


def tensor_rate(module: nn.Module) -> Optimizer:
    return torch.optim.Adam(module.parameters(), lr=torch.tensor(0.01), capturable=False, foreach=False)


def groups(module: Any) -> Optimizer:
    rates = [{"params": part.parameters(), "lr": torch.tensor(0.01)} for part in (module.body, module.head)]
    return torch.optim.Adam(rates, foreach=False)


def lbfgs(module: nn.Module) -> Optimizer:
    return torch.optim.LBFGS(module.parameters(), lr=0.1, max_iter=3)


def two(module: Any) -> list[Optimizer]:
    return [SGD(module.body.parameters(), lr=0.01), SGD(module.head.parameters(), lr=0.01)]


CASES: dict[str, tuple[Callable[[Any], Any], int, dict[str, Any]]] = {
    "32 bits": (sgd, 1, {}),
    "narrow": (sgd, 1, {"width": 8}),
    "narrow, bf16-true": (sgd, 1, {"width": 8, "precision": "bf16-true"}),
    "64 bits": (sgd, 1, {"precision": "64-true"}),
    "bf16-mixed": (sgd, 1, {"precision": "bf16-mixed"}),
    "bf16-true": (sgd, 1, {"precision": "bf16-true"}),
    "clipping by norm": (sgd, 1, {"gradient_clip_val": 0.5}),
    "accumulation": (sgd, 1, {"accumulate_grad_batches": 4}),
    "accumulation, bf16-mixed": (sgd, 1, {"accumulate_grad_batches": 4, "precision": "bf16-mixed"}),
    "rate in a tensor": (tensor_rate, 1, {}),
    "rates in tensors, accumulation": (groups, 1, {"accumulate_grad_batches": 2}),
    "LBFGS": (lbfgs, 1, {}),
    "two optimizers": (two, 2, {}),
    "GradScaler": (sgd, 1, {"scaled": True}),
    "GradScaler, clipping by norm": (sgd, 1, {"scaled": True, "gradient_clip_val": 0.5}),
    "GradScaler, accumulation": (sgd, 1, {"scaled": True, "accumulate_grad_batches": 4}),
}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


def counted(module: Net, data: DataLoader[Any], folder: Path, reads: Reads, **options: Any) -> Counter:
    """Fit under the preset, and return what has counted the reads of each batch."""
    watching = debugkit("standard")
    counter = Counter(reads, watching)
    pl.Trainer(default_root_dir=folder, callbacks=[*watching, counter], **QUIET, **options).fit(module, data)
    return counter


@pytest.mark.parametrize("case", CASES)
def test_a_step_reads_once_and_a_batch_without_a_step_never(case: str, tmp_path: Path, reads: Reads) -> None:
    make, optimizers, options = CASES[case]
    options = dict(options)
    if options.pop("scaled", False):
        from lightning.pytorch.plugins import MixedPrecision

        options["plugins"] = [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))]
    width = options.pop("width", 256)
    window = options.get("accumulate_grad_batches", 1)
    torch.manual_seed(0)
    count = 4 * STEPS * window // optimizers
    data = TensorDataset(torch.randn(count, 8), torch.randint(0, 2, (count,)))
    module = Net(make, optimizers, width)
    counter = counted(module, DataLoader(data, batch_size=4), tmp_path, reads, max_epochs=3, **options)
    seen = [(asked, places) for step, asked, places in counter.batches if step in STEADY]
    assert sum(asked for asked, _ in seen) >= 5, "the comparison must mean something"
    wrong = [(asked, places) for asked, places in seen if len(places) != asked]
    assert wrong == []
    assert {asked for asked, _ in seen} == ({0, 1} if window > 1 else {optimizers} if case != "LBFGS" else {3})


def test_steps_that_are_looked_at_closely_are_few(tmp_path: Path, reads: Reads) -> None:
    """The close looks read more, and grow rare: of a second hundred steps a handful."""
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(400, 8), torch.randint(0, 2, (400,)))
    counter = counted(Net(sgd), DataLoader(data, batch_size=20), tmp_path, reads, max_steps=200)
    late = [len(places) for step, _, places in counter.batches if step > 100]
    assert 95 <= len(late) < 100, "the rest are looks at activations"
    assert sum(count > 1 for count in late) <= 5
