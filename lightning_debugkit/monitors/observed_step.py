"""What the detector sees at each optimizer step; what its watches are given to judge."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import filterfalse
from operator import attrgetter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from lightning_debugkit.core.finding import Where
from lightning_debugkit.core.host_copy import read
from lightning_debugkit.core.optimizers import ParameterList
from lightning_debugkit.stats.tensor_norms import each_norm

# Norms from which on torch's own is infinite: in 32 bits the sum of squares overflows, in 16 the norm itself.
_OVERFLOWS = {
    torch.float32: math.sqrt(torch.finfo(torch.float32).max),
    torch.bfloat16: math.sqrt(torch.finfo(torch.float32).max),
    torch.float16: torch.finfo(torch.float16).max,
}
_trains = attrgetter("requires_grad")


def joint_norm(gradients: list[Tensor]) -> float:
    """Return the norm of all gradients together, by a read of its own; 0 without any."""
    return math.hypot(*read(each_norm(gradients)).tolist()) if gradients else 0.0


@dataclass(eq=False)
class StepStats:
    """One optimizer step, before the weights are touched.

    What is asked of each parameter is made when a rule asks for it: most steps ask for nothing but the totals.
    """

    where: Where  # place in the run
    optimizer: Optimizer  # the optimizer that is about to step
    loss: float | None  # mean loss since its last step, `None` if there was none
    held: ParameterList  # its parameters
    found: NDArray[np.float64]  # norm of the gradient of each that has one, `(m,)`, in order; unscaled
    norm: float  # that of all together
    present: Sequence[int] | None  # which these are; `None` if all have one
    group_rates: Sequence[float]  # learning rate of each of its groups
    run_rates: Sequence[Sequence[float]]  # learning rates of each of the run's optimizers, by group
    whole: bool  # the step uses a full accumulation window
    clipped: bool  # the gradients will be clipped before the step
    weigh: Callable[[], Sequence[float]]  # returns the norm of each parameter; may cost a pass over the weights
    dims: Sequence[int]  # number of dimensions of each parameter; a shard may have lost its own
    scale: float = 1.0  # loss scale of the step, 1 without one
    is_scaled: bool = False  # a `GradScaler` scales the loss
    # some rank's loss is not finite, or an earlier batch of its window was broken; known where ranks hold shards, as
    # they ask one another there
    alarm: bool = False

    @property
    def names(self) -> Sequence[str]:
        """Dotted path of each parameter."""
        return self.held.names

    @property
    def parameters(self) -> Sequence[Tensor]:
        """The optimizer's parameters."""
        return self.held.parameters

    @property
    def has_gradients(self) -> bool:
        """Tell whether any parameter has a gradient."""
        return self.found.size > 0

    @cached_property
    def norms(self) -> Sequence[float | None]:
        """Norm of the gradient of each parameter, ``None`` where it has none."""
        numbers: list[float] = self.found.tolist()
        if self.present is None:
            return numbers
        norms: list[float | None] = [None] * len(self.parameters)
        for index, norm in zip(self.present, numbers, strict=True):
            norms[index] = norm
        return norms

    @cached_property
    def each(self) -> NDArray[np.float64]:
        """Norm of the gradient of each parameter, ``(n,)``, NaN where it has none."""
        if self.present is None:
            return self.found
        each = np.full(len(self.parameters), np.nan)
        each[list(self.present)] = self.found
        return each

    @property
    def is_fed(self) -> bool:
        """Tell whether a parameter that trains has a gradient."""
        present = range(len(self.parameters)) if self.present is None else self.present
        return any(self.parameters[at].requires_grad for at in present)

    @property
    def broken(self) -> list[str]:
        """Parameters whose gradient is not finite."""
        if math.isfinite(self.norm):
            return []
        return [name for name, norm in zip(self.names, self.norms, strict=True) if norm and not math.isfinite(norm)]

    @cached_property
    def rates(self) -> Sequence[float]:
        """Learning rate of each parameter."""
        return [self.group_rates[group] for group in self.held.groups]

    @property
    def highest_rate(self) -> float:
        """The highest learning rate of its parameters, 0 if it has none."""
        return max([self.group_rates[group] for group in self.held.used_groups], default=0.0)

    @cached_property
    def frozen(self) -> list[Tensor]:
        """The parameters that need no gradient now."""
        return list(filterfalse(_trains, self.held.parameters))

    def left(self) -> float:
        """Return what part of the gradients is there now, as after hooks and step; NaN if some are gone."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if len(gradients) != len(self.found) or not self.norm > 0:
            return math.nan
        return joint_norm(gradients) / self.norm

    @property
    def overflows(self) -> bool:
        """Tell whether a clipping that computes the norm in the gradients' own type gets infinity."""
        if self.norm < _OVERFLOWS[torch.float16]:
            return False
        return any(self.norm > _OVERFLOWS.get(kind, math.inf) for kind in self.held.types)

    @cached_property
    def ratios(self) -> dict[str, float]:
        """Gradient norm over weight norm of each weight matrix or kernel that has both, in registration order."""
        found = {}
        for name, dims, norm, weight in zip(self.names, self.dims, self.norms, self.weigh(), strict=True):
            if norm is not None and weight > 0 and dims > 1:
                found[name] = norm / weight
        return found
