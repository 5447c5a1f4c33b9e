"""The steady-state look: the loss and the norms of the gradients that an optimizer is about to use, in one read."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from lightning_debugkit.core.compat import LightningModule, Trainer, divides_by_scale, scale_of
from lightning_debugkit.core.finding import Where
from lightning_debugkit.core.fit_facts import FitFacts
from lightning_debugkit.core.host_copy import HostCopy, Later, read
from lightning_debugkit.core.optimizers import (
    ParameterList,
    is_whole_window,
    rate_of,
)
from lightning_debugkit.core.rng import RandomState
from lightning_debugkit.core.run import Run
from lightning_debugkit.core.sharding import Sums
from lightning_debugkit.core.tensor_numbers import numbers
from lightning_debugkit.data.batches import tensors
from lightning_debugkit.data.sample_order import Handed
from lightning_debugkit.monitors.grad_norm_cache import GradientNorms, parameters_of, shared_norms, total_norm
from lightning_debugkit.monitors.observed_step import StepStats
from lightning_debugkit.stats.tensor_norms import each_norm, is_readable, norms, values

_WEIGHED = 10  # looks at shards that share one sum of the weights
_NONE: NDArray[np.float64] = np.zeros(0)
# Bytes of the batches of one accumulation window that stay alive until its step: which of them broke it, a look tells
# later. Of larger ones each is looked at when it is over.
_WINDOW = 1 << 28


@dataclass(frozen=True)
class ObservedBatch:
    """A batch, and what is needed to run its step again.

    Args:
        batch: What the step is given.
        batch_idx: Its number in the epoch.
        random: Random state that its step begins in.
        handed: What each loader has put into it.
        held: Tensors in plain attributes of the module, as the step begins, by name.
    """

    batch: Any = None
    batch_idx: int = 0
    random: RandomState | None = None
    handed: Sequence[Handed] = ()
    held: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def asked(self) -> list[tuple[Sequence[str], int | None]]:
        """The way to each loader's batch, and its samples."""
        return [(handed.way, handed.size) for handed in self.handed]


_NO_BATCH = ObservedBatch()
_SMALL = 65_536  # entries of a tensor that is kept alive beside the one that takes its place


def held_tensors(module: LightningModule) -> dict[str, Tensor]:
    """Return the small tensors in plain attributes of a module; a graph behind one would live on with it."""
    # Asked in each batch, and hardly any module keeps a tensor so: one of a subclass is not worth isinstance.
    found = [(name, value) for name, value in vars(module).items() if type(value) is Tensor]
    return {name: one for name, one in found if not one.requires_grad and one.numel() <= _SMALL}


@dataclass
class _Numbers:
    """What a look has read."""

    held: ParameterList
    found: NDArray[np.float64] = field(default_factory=lambda: _NONE)
    total: float = 0.0
    present: Sequence[int] | None = None
    dims: Sequence[int] = ()
    weigh: Callable[[], Sequence[float]] = list
    rates: Sequence[Sequence[float]] = ()
    optimizers: Sequence[Optimizer] = ()
    scale: float = 1.0
    is_scaled: bool = False
    alarm: bool = False


class StepStatsReader:
    """What is known of the batch and the accumulation window in progress.

    An optimizer step costs one read of the device: losses, norms, rates and loss scale in one vector, whatever their
    number. A batch that no step follows costs none.
    """

    def __init__(self, run: Run | None = None) -> None:
        self.run = run
        self.current = _NO_BATCH
        self.fit: FitFacts  # as the epoch began; given when the fit starts
        self.earlier: list[tuple[ObservedBatch, int]] = []  # batches of the window, with the place of their last loss
        self.loss: float | None = None  # mean since the last step of an optimizer
        self.backwards = 0  # since then
        self.passes = 0  # backward passes of the whole fit
        self._passes_before = 0  # this batch
        self.looks = 0
        self.error: Exception | None = None  # met in a look at the gradients
        self._losses: list[Tensor] = []
        self._read_losses: NDArray[np.float64] = _NONE
        self._kept = 0  # bytes of the batches that are kept
        self._factor = 1.0
        self._sums: dict[int, tuple[ParameterList, Sums, int]] = {}  # by optimizer: of which parameters, looks

    def begin(self, batch: ObservedBatch) -> None:
        """Take the batch that comes."""
        self.current, self._passes_before = batch, self.passes

    def end(self) -> None:
        """Let go of the batch."""
        self.current = _NO_BATCH

    def saw_loss(self, loss: Tensor) -> None:
        """Keep a reference to the loss, which was divided by the window; it is read later, together with the norms."""
        self._factor = float(self.fit.window)
        plain = loss if type(loss) is Tensor else numbers(loss)
        if plain is None and not is_readable(loss):
            return  # of a class that gives no numbers
        held = values(loss if plain is None else plain)
        self._losses.append(held.sum() if held.ndim else held)

    @property
    def later(self) -> Callable[[Tensor], Later]:
        """What takes numbers that the read of the next step is to bring along."""
        return Later if self.run is None else self.run.copies.later

    def saw_backward(self) -> None:
        """Count a backward pass."""
        self.backwards += 1
        self.passes += 1

    @property
    def passes_of_step(self) -> range:
        """Which backward passes of this batch, counted from 1, came since the last step of an optimizer."""
        last = self.passes - self._passes_before
        return range(max(1, last - self.backwards + 1), last + 1)

    def keep_batch(self) -> bool:
        """Keep the batch until the step of its window has been looked at; tell whether there is room for it."""
        self._kept += sum(each.numel() * each.element_size() for each in tensors(self.current.batch))
        if self._kept > _WINDOW:
            return False
        self.earlier.append((self.current, len(self._losses) - 1))
        return True

    def window_over(self) -> None:
        """Forget the losses of the step that is done."""
        self._losses, self.loss, self.backwards = [], None, 0
        self.earlier, self._kept, self._read_losses = [], 0, _NONE

    def suspects(self) -> Iterator[tuple[ObservedBatch, str]]:
        """Yield the batches of the window, but for the last, whose loss is not finite; if no loss is so, all of them.

        With each what its loss tells, empty if it tells nothing.
        """
        losses = self._read_losses
        broken = [f"loss is {loss * self._factor}" if not math.isfinite(loss) else "" for loss in losses]
        told = [(batch, broken[at]) for batch, at in self.earlier if 0 <= at < len(broken) and broken[at]]
        if told or not any(broken):
            yield from told or [(batch, "") for batch, _ in self.earlier]

    def broken_so_far(self, trainer: Trainer, module: LightningModule) -> str:
        """Say what is not finite after a backward that no step follows, empty if all is well."""
        gradients: list[Tensor] = []
        if self.fit.scaler is None:
            gradients = [p.grad for p in module.parameters() if p.grad is not None and is_readable(p.grad)]
        found = read(each_norm(gradients), self._losses)
        norms_, losses = found[: len(gradients)], found[len(gradients) :]
        if not np.isfinite(losses).all():
            return f"loss is {losses.mean()}"
        # A norm may overflow where no gradient does.
        suspects = [gradients[at] for at in np.flatnonzero(~np.isfinite(norms_))]
        return "gradient is not finite" if not all(math.isfinite(_wide_norm(grad)) for grad in suspects) else ""

    def look(
        self,
        trainer: Trainer,
        module: LightningModule,
        optimizer: Optimizer,
        where: Where,
        *,
        alarm: bool = False,
        weighed: bool = False,
    ) -> StepStats:
        """Return what the optimizer is about to do.

        Args:
            optimizer: Whose step it is.
            alarm: What other ranks are told of, where they hold shards.
            weighed: The norms of the weights are read along: a rule is going to ask for them.
        """
        self.looks += 1
        if self.fit.is_sharded:
            numbers = self._sum(trainer, optimizer, parameters_of(self.run, module, optimizer), alarm)
        else:
            numbers = self._own(trainer, module, optimizer, weighed)
        at = numbers.optimizers.index(optimizer) if optimizer in numbers.optimizers else None
        return StepStats(
            where=where,
            optimizer=optimizer,
            loss=self.loss,
            held=numbers.held,
            found=numbers.found,
            norm=numbers.total,
            present=numbers.present,
            group_rates=numbers.rates[at] if at is not None else [rate_of(g) for g in optimizer.param_groups],
            run_rates=numbers.rates,
            whole=self.fit.window == 1 or is_whole_window(trainer),
            clipped=bool(trainer.gradient_clip_val) or self.fit.clips,
            weigh=numbers.weigh,
            dims=numbers.dims,
            scale=numbers.scale,
            is_scaled=numbers.is_scaled,
            alarm=numbers.alarm,
        )

    def _own(self, trainer: Trainer, module: LightningModule, optimizer: Optimizer, weighed: bool) -> _Numbers:
        """Look where each rank has all gradients."""
        measured = shared_norms(self.run, trainer, module, optimizer, self.looks)
        held = measured.held
        numbers = _Numbers(held, dims=held.dims, weigh=lambda: norms(held.parameters).tolist())
        try:
            weights = each_norm(held.parameters, held.alike) if weighed and measured.count else []
            numbers.found, weighs = self._read(trainer, optimizer, measured, numbers, weights)
            numbers.present = measured.present
        except Exception as error:  # whatever the gradients are, the loss is looked at
            self.error = error
            if self.run is not None:
                self.run.norms = None
            numbers.present, numbers.weigh = [], lambda: [0.0] * len(held.parameters)
            self._read(trainer, optimizer, None, numbers)
            return numbers
        left = numbers.scale if divides_by_scale(optimizer) else 1.0
        if left != 1.0:
            numbers.found = numbers.found / left
        numbers.total = total_norm(numbers.found)
        if not math.isfinite(numbers.total):
            _widen(numbers.found, [p.grad for p in held.parameters if p.grad is not None], left)
            numbers.total = total_norm(numbers.found)
        measured.numbers, measured.total = numbers.found, numbers.total
        if weights:
            numbers.weigh = weighs.tolist
        return numbers

    def _sum(self, trainer: Trainer, optimizer: Optimizer, held: ParameterList, alarm: bool) -> _Numbers:
        """Look where each rank holds shards: one small sum over all ranks tells all of them the same."""
        known, sums, looks = self._sums.get(id(optimizer), (None, None, 0))
        if sums is None or known is not held:
            sums, looks = Sums(trainer, held.parameters), 0
        self._sums[id(optimizer)] = held, sums, looks + 1
        numbers = _Numbers(held, dims=sums.dims)
        self._read(trainer, optimizer, None, numbers)
        alarm = alarm or (self.loss is not None and not math.isfinite(self.loss))
        numbers.alarm, found = sums(alarm, with_weights=looks < 3 or looks % _WEIGHED == 0)
        left = numbers.scale if divides_by_scale(optimizer) else 1.0
        numbers.present = [index for index, norm in enumerate(found) if norm is not None]
        numbers.found = np.array([norm / left for norm in found if norm is not None])
        numbers.total = total_norm(numbers.found)
        weights = sums.weights
        numbers.weigh = lambda: weights
        return numbers

    def _read(
        self,
        trainer: Trainer,
        optimizer: Optimizer,
        measured: GradientNorms | None,
        numbers: _Numbers,
        weights: Sequence[Tensor] = (),
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Bring norms, losses, rates and loss scale to the host in one copy; return the norms, and those of weights."""
        losses, scaler, optimizers = self._losses, self.fit.scaler, self.fit.optimizers
        scale = 1.0 if scaler is None else scale_of(scaler)
        numbers.optimizers, numbers.is_scaled = optimizers, scaler is not None
        of_groups: list[list[Any]] = [[group.get("lr") for group in one.param_groups] for one in optimizers]
        is_plain = {*map(type, itertools.chain.from_iterable(of_groups))} <= {float}
        of_tensors = [] if is_plain else [rate for rates in of_groups for rate in rates if isinstance(rate, Tensor)]
        device = None if measured is None else measured.device
        if device is None and losses:
            device = losses[0].device
        # What lies elsewhere, as a rate of the host, is asked for by itself: nothing has to wait for that.
        along = [rate for rate in of_tensors if rate.device == device and rate.numel() == 1]
        copies = HostCopy() if self.run is None else self.run.copies
        scales = [scale] if isinstance(scale, Tensor) else []
        others = [*weights, *losses, *scales, *along]
        each, found = (_NONE, copies.now((), others)) if measured is None else measured.read(copies, others)
        first, second = len(weights), len(weights) + len(losses)
        self._read_losses = found[first:second]
        numbers.rates = of_groups
        if scaler is not None or not is_plain:
            rest = iter(found[second:].tolist())
            numbers.scale = next(rest) if scales else float(scale)
            known = {id(rate): number for rate, number in zip(along, rest, strict=True)}
            numbers.rates = [[_number(rate, known) for rate in rates] for rates in of_groups]
        self.loss = sum(self._read_losses.tolist()) / len(losses) * self._factor / numbers.scale if losses else None
        return each, found[:first]


def _number(rate: Any, known: Mapping[int, float]) -> float:
    """Return a learning rate as a number; that of a tensor may be ``known`` by its ``id``."""
    return known[id(rate)] if id(rate) in known else rate_of({"lr": rate})


def _widen(found: NDArray[np.float64], gradients: Sequence[Tensor], left: float) -> None:
    """Put right the norms of gradients whose squares have overflowed 32 bits, and no more."""
    for at in map(int, np.flatnonzero(~np.isfinite(found))):
        found[at] = _wide_norm(gradients[at]) / left


def _wide_norm(grad: Tensor | None) -> float:
    """Return the norm of a gradient whose squares may have overflowed 32 bits."""
    return 0.0 if grad is None else float(norms([values(grad).double()])[0])
