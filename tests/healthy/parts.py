"""What the healthy programs share: the registry, real data, the module most people write, one way to fit."""

import functools
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from monitors.breaking import QUIET
from sklearn import datasets
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer
from torch.utils.data import DataLoader, TensorDataset

Batch = tuple[Tensor, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]
MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
MakeSchedule = Callable[[Any], Any]


@dataclass(frozen=True)
class Program:
    """A module, its data and the Trainer arguments (such as max_epochs) under which it trains well."""

    module: LightningModule
    train: Any
    val: Any = None
    trainer: dict[str, Any] = field(default_factory=dict)


PROGRAMS: dict[str, Callable[[], Program]] = {}


def program(factory: Callable[[], Program]) -> Callable[[], Program]:
    """Enter the factory in the registry under its own name; every call starts from the same seed."""

    @functools.wraps(factory)
    def seeded() -> Program:
        torch.manual_seed(0)
        return factory()

    PROGRAMS[factory.__name__] = seeded
    return seeded


def fit(healthy: Program, root: Path, *callbacks: Callback) -> Trainer:
    """Run the program to its end, in silence."""
    trainer = Trainer(default_root_dir=root, callbacks=list(callbacks), **QUIET, **healthy.trainer)
    trainer.fit(healthy.module, healthy.train, healthy.val)
    return trainer


class Supervised(LightningModule):
    """A network, a loss of (prediction, target), an optimiser, perhaps a schedule."""

    def __init__(
        self,
        net: nn.Module,
        loss: Loss,
        optimizer: MakeOptimizer,
        schedule: MakeSchedule | None = None,
        interval: str = "epoch",
        monitor: str | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.loss = loss
        self.make_optimizer = optimizer
        self.make_schedule = schedule
        self.interval = interval
        self.monitor = monitor

    def forward(self, x: Tensor) -> Any:
        return self.net(x)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        x, y = batch
        loss = self.loss(self(x), y)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", self.loss(self(x), y))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.make_optimizer(p for p in self.parameters() if p.requires_grad)
        if self.make_schedule is None:
            return optimizer
        schedule: Any = {"scheduler": self.make_schedule(optimizer), "interval": self.interval}
        if self.monitor is not None:
            schedule["monitor"] = self.monitor
        return {"optimizer": optimizer, "lr_scheduler": schedule}


def loader(*tensors: Tensor, batch_size: int = 64, shuffle: bool = True, drop_last: bool = False) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*tensors), batch_size=batch_size, shuffle=shuffle, drop_last=drop_last)


def shuffled(x: Tensor, y: Tensor) -> Batch:
    """The rows in an order of their own, the same in every run."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    return x[order], y[order]


def standardized(x: Tensor) -> Tensor:
    return (x - x.mean(0)) / x.std(0).clamp_min(1e-6)


@functools.cache
def _bunch(name: str) -> Batch:
    bunch = getattr(datasets, f"load_{name}")()
    return shuffled(torch.tensor(bunch.data, dtype=torch.float32), torch.tensor(bunch.target))


def pixels() -> Batch:
    """The 1797 digits as (n, 1, 8, 8) in [0, 1], and their labels."""
    x, y = _bunch("digits")
    return x.view(-1, 1, 8, 8) / 16, y


def images() -> Batch:
    """The digits with zero mean and unit variance over all pixels."""
    x, y = pixels()
    return (x - x.mean()) / x.std(), y


def digits(
    batch_size: int = 64, flat: bool = False, drop_last: bool = False
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Training (1440) and validation (357) loaders of the standardised digits."""
    x, y = images()
    x = x.flatten(1) if flat else x
    train = loader(x[:1440], y[:1440], batch_size=batch_size, drop_last=drop_last)
    return train, loader(x[1440:], y[1440:], batch_size=256, shuffle=False)


def table(name: str) -> Batch:
    """Wine, breast_cancer or diabetes: standardised columns, the target as it comes."""
    x, y = _bunch(name)
    return standardized(x), y


def text() -> str:
    """Some 14,000 characters of real English: the descriptions that ship with the data sets."""
    names = ("digits", "wine", "breast_cancer", "diabetes", "iris")
    return "\n".join(getattr(datasets, f"load_{name}")().DESCR for name in names)


def mlp(*widths: int, act: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inner, outer in itertools.pairwise(widths):
        layers += [nn.Linear(inner, outer), act()]
    return nn.Sequential(*layers[:-1])


def small_cnn(outputs: int = 10) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, outputs),
    )


def pretrain(net: nn.Module, x: Tensor, y: Tensor, steps: int = 80) -> None:
    """A plain loop, so that a program can start from a network that already knows something."""
    optimizer = Adam(net.parameters(), lr=3e-3)
    for _ in range(steps):
        rows = torch.randint(len(x), (64,))
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(net(x[rows]), y[rows]))
        optimizer.step()
    optimizer.zero_grad()
