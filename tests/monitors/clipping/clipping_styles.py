"""Every way in which people clip gradients, each noting by its own arithmetic the norm before and after."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins import MixedPrecision
from sklearn import datasets
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.utils.data import DataLoader, TensorDataset


def size(parameters: Iterable[Tensor], scale: float = 1.0) -> float:
    """The norm of the gradients, entry by entry in double precision."""
    return math.sqrt(sum(float((p.grad.double() / scale).pow(2).sum()) for p in parameters if p.grad is not None))


class Automatic(pl.LightningModule):
    """A classifier of digits under automatic optimisation; ``before`` is the norm that Lightning is about to clip."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(64, 32)
        self.head = nn.Linear(32, 10)
        self.before: list[float] = []
        self.after: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(x)))

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self(x), y)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(batch)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        self.before.append(size(self.parameters()))
        self.clip(optimizer, gradient_clip_val, gradient_clip_algorithm)
        self.after.append(size(self.parameters()))

    def clip(self, optimizer: torch.optim.Optimizer, value: float | None, algorithm: str | None) -> None:
        self.clip_gradients(optimizer, gradient_clip_val=value, gradient_clip_algorithm=algorithm)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class TorchDirectly(Automatic):
    def clip(self, optimizer: torch.optim.Optimizer, value: float | None, algorithm: str | None) -> None:
        torch.nn.utils.clip_grad_norm_(self.parameters(), 0.3)


class ImportedByName(Automatic):
    def clip(self, optimizer: torch.optim.Optimizer, value: float | None, algorithm: str | None) -> None:
        clip_grad_norm_(self.parameters(), 0.3)


class ValueByName(Automatic):
    def clip(self, optimizer: torch.optim.Optimizer, value: float | None, algorithm: str | None) -> None:
        clip_grad_value_(self.parameters(), 0.01)


class ByHand(Automatic):
    def clip(self, optimizer: torch.optim.Optimizer, value: float | None, algorithm: str | None) -> None:
        for parameter in self.parameters():
            parameter.grad.mul_(min(1.0, 0.3 / size(self.parameters())))
            break
        rest = list(self.parameters())[1:]
        for parameter in rest:
            parameter.grad.clamp_(-0.01, 0.01)


class Plain(Automatic):
    """No override at all: the norm is noted in the hook before."""

    configure_gradient_clipping = pl.LightningModule.configure_gradient_clipping

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.before.append(size(self.parameters()))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if len(self.before) > len(self.after):
            self.after.append(size(self.parameters()))


class InTheStepHook(Plain):
    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.before.append(size(self.parameters()))
        nn.utils.clip_grad_norm_(self.parameters(), 0.3)


class Manual(Automatic):
    """Backward, clip and step by hand."""

    configure_gradient_clipping = pl.LightningModule.configure_gradient_clipping

    def __init__(self, clip: Callable[[Manual, Any], None]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.clipping = clip

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        self.before.append(size(self.parameters()))
        self.clipping(self, optimizer)
        self.after.append(size(self.parameters()))
        optimizer.step()


class TwoOptimizers(Manual):
    """Body and head have their own optimizers and thresholds."""

    thresholds = (0.3, 0.1)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.manual_backward(self.loss(batch))
        for part, optimizer, threshold in zip((self.body, self.head), self.optimizers(), self.thresholds, strict=True):
            self.before.append(size(part.parameters()))
            self.clip_gradients(optimizer, gradient_clip_val=threshold, gradient_clip_algorithm="norm")
            self.after.append(size(part.parameters()))
            optimizer.step()
            optimizer.zero_grad()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.body, self.head)]


class ManualScaled(Manual):
    """Under a loss scale, clipped where the gradients are unscaled."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        optimizer.step()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.before.append(size(self.parameters()))
        self.clipping(self, optimizer)
        self.after.append(size(self.parameters()))


def lightnings(module: Manual, optimizer: Any) -> None:
    module.clip_gradients(optimizer, gradient_clip_val=0.3, gradient_clip_algorithm="norm")


def lightnings_by_value(module: Manual, optimizer: Any) -> None:
    module.clip_gradients(optimizer, gradient_clip_val=0.01, gradient_clip_algorithm="value")


def torchs(module: Manual, optimizer: Any) -> None:
    clip_grad_norm_(module.parameters(), 0.3)


def value_by_name(module: Manual, optimizer: Any) -> None:
    clip_grad_value_(module.parameters(), 0.01)


def half() -> dict[str, Any]:
    """A real GradScaler on a CPU."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    return {"plugins": [MixedPrecision("16-mixed", "cpu", scaler=scaler)]}


NORM = {"gradient_clip_val": 0.3}
VALUE = {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"}

# Name: module, arguments of the Trainer, what is cut, and whether the norm is the one that the clipping computes.
STYLES: dict[str, tuple[Callable[[], Automatic], Callable[[], dict[str, Any]], str, bool]] = {
    "Trainer, norm": (Plain, lambda: NORM, "norm", True),
    "Trainer, value": (Plain, lambda: VALUE, "value", False),
    "override, self.clip_gradients": (Automatic, lambda: NORM, "norm", True),
    "override, self.clip_gradients, value": (Automatic, lambda: VALUE, "value", False),
    "override, torch directly": (TorchDirectly, dict, "norm", True),
    "override, imported by name": (ImportedByName, dict, "norm", True),
    "override, value imported by name": (ValueByName, dict, "module", False),
    "override, by hand": (ByHand, dict, "module", False),
    "on_before_optimizer_step": (InTheStepHook, dict, "norm", True),
    "accumulation": (Plain, lambda: {**NORM, "accumulate_grad_batches": 3}, "norm", True),
    "mixed precision": (Plain, lambda: {**NORM, **half()}, "norm", True),
    "mixed precision, override": (TorchDirectly, half, "norm", True),
    "bf16": (Plain, lambda: {**NORM, "precision": "bf16-mixed"}, "norm", True),
    "manual, self.clip_gradients": (lambda: Manual(lightnings), dict, "norm", True),
    "manual, value": (lambda: Manual(lightnings_by_value), dict, "value", False),
    "manual, imported by name": (lambda: Manual(torchs), dict, "norm", True),
    "manual, value imported by name": (lambda: Manual(value_by_name), dict, "module", False),
    "manual, mixed precision": (lambda: ManualScaled(lightnings), half, "norm", True),
    "manual, two optimizers": (lambda: TwoOptimizers(lightnings), dict, "norm", True),
    "nothing clips": (Plain, dict, "nothing", False),
}


def digits() -> DataLoader[Any]:
    x, y = datasets.load_digits(return_X_y=True)
    columns = torch.tensor(x[:480], dtype=torch.float32) / 16, torch.tensor(y[:480])
    return DataLoader(TensorDataset(*columns), batch_size=16)


def fit(module: pl.LightningModule, folder: Any, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "accelerator": "cpu", "devices": 1, "max_epochs": 1}
    trainer = pl.Trainer(callbacks=list(callbacks), default_root_dir=folder, **{**quiet, **options})
    trainer.fit(module, digits())
    return trainer
