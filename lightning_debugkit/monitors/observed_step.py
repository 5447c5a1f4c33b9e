"""What the detector sees at each optimizer step; what its watches are given to judge."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_debugkit.core.finding import Where

# Norms from which on torch's own is infinite: in 32 bits the sum of squares overflows, in 16 the norm itself.
_OVERFLOWS = {
    torch.float32: math.sqrt(torch.finfo(torch.float32).max),
    torch.bfloat16: math.sqrt(torch.finfo(torch.float32).max),
    torch.float16: torch.finfo(torch.float16).max,
}


@dataclass(frozen=True)
class StepStats:
    """One optimizer step, before the weights are touched.

    Args:
        where: Place in the run.
        optimizer: The optimizer that is about to step.
        loss: Mean loss since its last step, ``None`` if there was none.
        names: Dotted path of each of its parameters.
        parameters: Those parameters.
        norms: Norm of the gradient of each, ``None`` where it has none; unscaled.
        rates: Learning rate of each.
        whole: The step uses a full accumulation window.
        clipped: The gradients will be clipped before the step.
        weigh: Returns the norm of each parameter; costs a pass over the weights.
        dims: Number of dimensions of each parameter; a shard may have lost its own.
        alarm: Some rank's loss is not finite, or an earlier batch of its window was broken; known where ranks hold
            shards, as they ask one another there.
    """

    where: Where
    optimizer: Optimizer
    loss: float | None
    names: Sequence[str]
    parameters: Sequence[Tensor]
    norms: Sequence[float | None]
    rates: Sequence[float]
    whole: bool
    clipped: bool
    weigh: Callable[[], Sequence[float]]
    dims: Sequence[int]
    alarm: bool = False

    @cached_property
    def norm(self) -> float:
        """Norm of all gradients together."""
        return math.hypot(*(norm for norm in self.norms if norm is not None))

    @cached_property
    def overflows(self) -> bool:
        """Tell whether a clipping that computes the norm in the gradients' own type gets infinity."""
        if self.norm < _OVERFLOWS[torch.float16]:
            return False
        return any(self.norm > _OVERFLOWS.get(p.dtype, math.inf) for p in self.parameters)

    @cached_property
    def ratios(self) -> dict[str, float]:
        """Gradient norm over weight norm of each weight matrix or kernel that has both, in registration order."""
        found = {}
        for name, dims, norm, weight in zip(self.names, self.dims, self.norms, self.weigh(), strict=True):
            if norm is not None and weight > 0 and dims > 1:
                found[name] = norm / weight
        return found
