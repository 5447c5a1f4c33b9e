"""The steady-state look: the loss and the norms of the gradients that an optimizer is about to use."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_debugkit.core.compat import overrides
from lightning_debugkit.core.finding import Where
from lightning_debugkit.core.optimizers import Parameters, is_whole, rates_of, scale_left
from lightning_debugkit.core.rng import RandomState
from lightning_debugkit.core.sharding import Sums, is_sharded
from lightning_debugkit.monitors.grad_norm_cache import shared_norms
from lightning_debugkit.monitors.observed_step import StepStats
from lightning_debugkit.stats.tensor_norms import is_readable, norms, values

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

_WEIGHED = 10  # looks at shards that share one sum of the weights


@dataclass(frozen=True)
class _Norms:
    """What a look reads: norms of gradients, dimensions of parameters, their norms on demand, and any rank's alarm."""

    gradients: list[float | None]
    dims: list[int]
    weigh: Callable[[], Sequence[float]]
    alarm: bool = False


class StepStatsReader:
    """What is known of the batch and the accumulation window in progress.

    On a GPU a look reads one small vector: one synchronisation for each backward, whatever the number of parameters.
    """

    def __init__(self) -> None:
        self.batch: Any = None
        self.batch_idx = 0
        self.random: RandomState | None = None
        self.asked: Sequence[tuple[Sequence[str], int | None]] = ()  # the way to each loader's batch, and its samples
        self.loss: float | None = None  # mean since the last step of an optimizer
        self.backwards = 0  # since then
        self.passes = 0  # backward passes of the whole fit
        self.looks = 0
        self.error: Exception | None = None  # met in a look at the gradients
        self._losses: list[Tensor] = []
        self._factor = 1.0
        self._parameters = Parameters()
        self._sums: dict[int, tuple[list[Tensor], Sums, int]] = {}  # by optimizer: of which parameters, looks

    @property
    def unread(self) -> set[str]:
        """Classes of parameters whose numbers cannot be asked for."""
        return self._parameters.unread

    def begin(self, batch: Any, batch_idx: int, random: RandomState) -> None:
        """Take the batch that comes and the random state it starts in."""
        self.batch, self.batch_idx, self.random = batch, batch_idx, random

    def end(self) -> None:
        """Let go of the batch."""
        self.batch = None

    def saw_loss(self, trainer: Trainer, loss: Tensor) -> None:
        """Keep a reference to the loss; it is read later, together with the norms."""
        automatic = trainer.lightning_module.automatic_optimization
        self._factor = float(trainer.accumulate_grad_batches) if automatic else 1.0
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None:
            self._factor /= scaler.get_scale()
        self._losses.append(values(loss).sum())

    def saw_backward(self) -> None:
        """Count a backward pass."""
        self.backwards += 1
        self.passes += 1

    def window_over(self) -> None:
        """Forget the losses of the step that is done."""
        self._losses, self.loss, self.backwards = [], None, 0

    def broken_so_far(self, trainer: Trainer, module: LightningModule) -> str:
        """Say what is not finite after a backward that no step follows, empty if all is well."""
        gradients: list[Tensor] = []
        if getattr(trainer.precision_plugin, "scaler", None) is None:
            gradients = [p.grad for p in module.parameters() if p.grad is not None and is_readable(p.grad)]
        loss, found = self._read(norms(gradients))
        if loss is not None and not math.isfinite(loss):
            return f"loss is {loss}"
        # A norm may overflow where no gradient does.
        suspects = [grad for grad, norm in zip(gradients, found, strict=True) if not math.isfinite(norm)]
        return "gradient is not finite" if not all(math.isfinite(_wide_norm(grad)) for grad in suspects) else ""

    def look(
        self, trainer: Trainer, module: LightningModule, optimizer: Optimizer, where: Where, alarm: bool = False
    ) -> StepStats:
        """Return what the optimizer is about to do; other ranks are told of an ``alarm`` where they hold shards."""
        self.looks += 1
        names, parameters = self._parameters.of(module, optimizer)
        read = (
            self._sum(trainer, optimizer, parameters, alarm) if is_sharded(trainer) else self._own(trainer, parameters)
        )
        scale = scale_left(trainer, optimizer)
        rates = rates_of(optimizer, parameters)
        return StepStats(
            where=where,
            optimizer=optimizer,
            loss=self.loss,
            names=names,
            parameters=parameters,
            norms=[None if norm is None else norm / scale for norm in read.gradients],
            rates=rates,
            whole=is_whole(trainer),
            clipped=bool(trainer.gradient_clip_val) or overrides(module, "configure_gradient_clipping"),
            weigh=read.weigh,
            dims=read.dims,
            alarm=read.alarm,
        )

    def _own(self, trainer: Trainer, parameters: list[Tensor]) -> _Norms:
        """Look where each rank has all gradients."""
        present = [index for index, p in enumerate(parameters) if p.grad is not None]
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm_of: list[float | None] = [None] * len(parameters)
        try:
            measured = shared_norms(trainer, self.looks, gradients)
        except Exception as error:  # whatever the gradients are, the loss is looked at
            self.error = error
            self.loss, _ = self._read(torch.zeros(0))
            return _Norms(norm_of, [p.ndim for p in parameters], lambda: [0.0] * len(parameters))
        self.loss, found = self._read(measured)
        for index, norm in zip(present, found, strict=True):
            norm_of[index] = norm if math.isfinite(norm) else _wide_norm(parameters[index].grad)
        return _Norms(norm_of, [p.ndim for p in parameters], lambda: norms(parameters).tolist())

    def _sum(self, trainer: Trainer, optimizer: Optimizer, parameters: list[Tensor], alarm: bool) -> _Norms:
        """Look where each rank holds shards: one small sum over all ranks tells all of them the same."""
        known, sums, looks = self._sums.get(id(optimizer), ([], None, 0))
        if sums is None or known is not parameters:
            known, sums, looks = parameters, Sums(trainer, parameters), 0
        self._sums[id(optimizer)] = known, sums, looks + 1
        self.loss, _ = self._read(torch.zeros(0, device=trainer.strategy.root_device))
        alarm = alarm or (self.loss is not None and not math.isfinite(self.loss))
        alarmed, norm_of = sums(alarm, with_weights=looks < 3 or looks % _WEIGHED == 0)
        weights = sums.weights
        return _Norms(norm_of, sums.dims, lambda: weights, alarmed)

    def _read(self, found: Tensor) -> tuple[float | None, list[float]]:
        """Bring losses and norms to the host in one copy."""
        if not self._losses:
            return None, found.tolist()
        mean = torch.stack([loss.to(found.device, torch.float32) for loss in self._losses]).mean()
        if not found.numel():
            return float(mean) * self._factor, []
        values = torch.cat([mean.reshape(1).to(found), found]).tolist()
        return values[0] * self._factor, values[1:]


def _wide_norm(grad: Tensor | None) -> float:
    """Return the norm of a gradient whose squares may have overflowed 32 bits."""
    return 0.0 if grad is None else float(norms([values(grad).double()])[0])
