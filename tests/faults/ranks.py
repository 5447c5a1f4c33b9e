"""Two processes: a fault that only one of them sees, and replicas that drift apart."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.utils.data import DistributedSampler

from faults.backward import Siamese
from faults.numbers import Detector, digits_with_boxes
from faults.registry import Fault, Program, batches, digits, fault
from faults.wiring import TwoParts

RANKS: dict[str, Fault] = {}


def pair(module: pl.LightningModule, *columns: torch.Tensor, **trainer: Any) -> Program:
    """Two processes, 16 samples each, dealt to them by Lightning."""
    strategy = DDPStrategy(start_method="fork", timeout=timedelta(seconds=60))
    options = {"strategy": strategy, "devices": 2, "max_epochs": 2, **trainer}
    return Program(module, batches(*columns, size=16, shuffle=False), trainer=options)


def sample_of(rank: int, batch: int, position: int) -> int:
    """The index, of 512, of a sample that one rank gets: Lightning shuffles always, by the global seed."""
    dealt = DistributedSampler(range(512), num_replicas=2, rank=rank, shuffle=True, seed=torch.initial_seed())
    return list(dealt)[16 * batch + position]


@fault(
    "nonfinite-gradient", source="squared.sqrt()", op="sqrt", samples=[5], at_step=6, batch_idx=6, rank=1, into=RANKS
)
def one_rank_has_a_nan_gradient(mended: bool) -> Program:
    """After the reduction all ranks hold NaN; only rank 1 had the pair of one image."""
    x, y = digits(512)
    partner = torch.roll(torch.arange(512), 1)
    bad = sample_of(rank=1, batch=6, position=5)
    partner[bad] = bad
    return pair(Siamese(mended), x, x[partner], (y == y[partner]).float())


@fault("nonfinite-loss", source="torch.log(wh)", op="log", samples=[3], at_step=9, batch_idx=9, rank=1, into=RANKS)
def one_rank_has_an_infinite_loss(mended: bool) -> Program:
    """All gradients are finite, on all ranks; the loss of rank 1 is not."""
    x, boxes = digits_with_boxes(512)
    boxes[sample_of(rank=1, batch=9, position=3), 3] = 0
    return pair(Detector(mended), x, boxes)


class ClipsOnRankZero(TwoParts):
    """Clipping belongs to all ranks: after the reduction their gradients are equal, and must stay so."""

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.mended or self.global_rank == 0:
            nn.utils.clip_grad_norm_(self.parameters(), 0.4)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@fault("replicas-differ", rank=None, into=RANKS)
def one_rank_clips(mended: bool) -> Program:
    """Clipping inside ``if self.global_rank == 0``."""
    return pair(ClipsOnRankZero(mended), *digits(), max_epochs=4)


class LoadsOnRankZero(TwoParts):
    """The pretrained head is loaded when training starts; DDP has already copied the weights to all ranks."""

    def on_train_start(self) -> None:
        if self.mended or self.global_rank == 0:
            with torch.no_grad():
                self.head.weight.copy_(torch.linspace(-0.1, 0.1, 320).view(10, 32))


@fault("replicas-differ", "head", rank=None, into=RANKS)
def one_rank_loads_weights(mended: bool) -> Program:
    """Loading inside ``if self.global_rank == 0``."""
    return pair(LoadsOnRankZero(mended), *digits(), max_epochs=4)
