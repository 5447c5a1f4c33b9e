"""The norms of an optimizer's gradients, computed once however many callbacks look at the same step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from lightning_debugkit.core.callback import DebugCallback
from lightning_debugkit.core.compat import Callback, LightningModule, Trainer, callbacks_of, overrides
from lightning_debugkit.core.host_copy import HostCopy
from lightning_debugkit.core.optimizers import ParameterList, Parameters
from lightning_debugkit.core.run import Run
from lightning_debugkit.stats.tensor_norms import are_dense
from lightning_debugkit.stats.tensor_norms import each_norm as norms


@dataclass(eq=False)
class GradientNorms:
    """The norms of the gradients that an optimizer is about to use."""

    held: ParameterList
    present: Sequence[int] | None  # which of them have a gradient; `None` if all have one
    gradients: Sequence[Tensor]  # as they are now; let go of once they are measured
    # the same in host memory, the scale taken out, once somebody has read it
    numbers: NDArray[np.float64] | None = None
    total: float = math.nan  # norm of all together, once the numbers are known

    def __post_init__(self) -> None:
        self.count = len(self.gradients)
        self.device = self.gradients[0].device if self.gradients else None
        self._read: NDArray[np.float64] | None = None

    @cached_property
    def each(self) -> Sequence[Tensor]:
        """Norm of each gradient, each of shape () on its device, as it is when this is first asked.

        The loss scale is still in them where an optimizer takes it out itself.
        """
        found = norms(list(self.gradients), self.held.alike)
        self.gradients = ()
        return found

    def read(self, copies: HostCopy, others: Sequence[Tensor]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the norms and other numbers by one copy to the host; the scale is still in them."""
        if self._read is not None:
            return self._read, copies.now((), others)
        if self.held.are_short and self.gradients and are_dense(self.gradients):
            sizes: Sequence[int] = self.held.sizes if self.present is None else ()
            self._read, numbers = copies.norms(self.gradients, others, sizes)
        else:
            found = copies.now(self.each, others)
            self._read, numbers = found[: self.count], found[self.count :]
        self.gradients = ()
        return self._read, numbers


def total_norm(found: NDArray[np.float64]) -> float:
    """Return the norm of all gradients together.

    Shapes:
        found: norm of each, (n,).
    """
    total = math.sqrt(found.dot(found))
    # Squares may leave the range of 64 bits at either end.
    return math.hypot(*found.tolist()) if total in (0.0, math.inf) else total


def gathered(held: ParameterList) -> GradientNorms:
    """Return the gradients that are there now, which are to be measured before anything changes them."""
    gradients = [grad for p in held.parameters if (grad := p.grad) is not None]
    is_full = len(gradients) == len(held.parameters)
    present = None if is_full else [index for index, p in enumerate(held.parameters) if p.grad is not None]
    return GradientNorms(held, present, gradients)


def parameters_of(run: Run | None, module: LightningModule, optimizer: Optimizer) -> ParameterList:
    """Return the parameters of an optimizer, in its order."""
    return (Parameters() if run is None else run.parameters).of(module, optimizer)


def shared_norms(
    run: Run | None, trainer: Trainer, module: LightningModule, optimizer: Optimizer, moment: int
) -> GradientNorms:
    """Return the gradients of a step, measured if a callback has asked before; each asks for what it needs at once.

    Args:
        run: The run that both watch.
        moment: How often ``on_before_optimizer_step`` has been called in this fit; equal for all who ask in one call.
    """
    key = moment, id(optimizer)
    if run is not None and run.norms is not None and run.norms[0] == key:
        shared: GradientNorms = run.norms[1]
        return shared
    found = gathered(parameters_of(run, module, optimizer))
    if run is not None and run.norm_readers > 1 and not _changes_between(run, callbacks_of(trainer)):
        run.norms = key, found
    return found


def _changes_between(run: Run, callbacks: list[Any]) -> bool:
    """Tell whether a callback of the user's stands between two of ours, and may change the gradients."""
    company = list(map(id, callbacks))
    if company != run.company:
        ours = [place for place, each in enumerate(callbacks) if isinstance(each, DebugCallback)]
        between = [each for each in callbacks[ours[0] : ours[-1]] if not isinstance(each, DebugCallback)]
        run.company = company
        run.is_interrupted = any(overrides(each, "on_before_optimizer_step", Callback) for each in between)
    return run.is_interrupted
