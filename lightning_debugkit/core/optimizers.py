"""What several callbacks ask about an optimizer and the step that it is about to take."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_debugkit.core.compat import LightningOptimizer, both_packages, divides_by_scale
from lightning_debugkit.core.sharding import unwrapped_name
from lightning_debugkit.stats.tensor_norms import is_readable

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


def raw(optimizer: Optimizer | LightningOptimizer) -> Optimizer:
    """Return the torch optimizer inside of Lightning's."""
    if isinstance(optimizer, both_packages(LightningOptimizer)):
        inner: Optimizer = optimizer.optimizer
        return inner
    return optimizer  # type: ignore[return-value]  # what is left is torch's own


def held_by(optimizers: Iterable[Optimizer]) -> set[int]:
    """Return the parameters that any of the optimizers holds, by ``id``."""
    return {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}


def rate_of(group: Mapping[str, Any]) -> float:
    """Return the learning rate of a group of parameters, NaN where its optimizer knows none.

    Example:
        >>> rate_of({"lr": 0.1}), rate_of({})
        (0.1, nan)
    """
    try:
        return float(group["lr"])
    except (KeyError, TypeError, ValueError, RuntimeError):
        return math.nan


def rates_of(optimizer: Optimizer, parameters: Sequence[Tensor]) -> list[float]:
    """Return the learning rate of each of an optimizer's ``parameters``."""
    rates = [rate for group in optimizer.param_groups for rate in [rate_of(group)] * len(group["params"])]
    if len(rates) == len(parameters):
        return rates
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]  # some cannot be looked at
    rate = dict(zip(held, rates, strict=True))
    return [rate[id(p)] for p in parameters]


class Parameters:
    """Path and tensor of each parameter of an optimizer, looked up anew only when its groups have changed."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[tuple[int, ...], list[str], list[Tensor]]] = {}
        self.unread: set[str] = set()  # classes of parameters whose numbers cannot be asked for; they are left out

    def of(self, module: LightningModule, optimizer: Optimizer) -> tuple[list[str], list[Tensor]]:
        """Return paths and parameters in the optimizer's order."""
        held = [p for group in optimizer.param_groups for p in group["params"]]
        if any(type(p) is not nn.Parameter for p in held):
            self.unread |= {type(p).__name__ for p in held if not is_readable(p)}
            held = [p for p in held if is_readable(p)]
        key = tuple(map(id, held))
        known = self._known.get(id(optimizer))
        if known is None or known[0] != key:
            paths = {id(p): unwrapped_name(name) for name, p in module.named_parameters()}
            names = [paths.get(id(p), f"(not in the model) {index}") for index, p in enumerate(held)]
            known = self._known[id(optimizer)] = (key, names, held)
        return known[1], known[2]


def scale_left(trainer: Trainer, optimizer: Optimizer) -> float:
    """Return the loss scale that is still in the gradients: fused optimizers divide by it in their own step."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is None or not divides_by_scale(optimizer):
        return 1.0
    return float(scaler.get_scale())


def is_whole(trainer: Trainer) -> bool:
    """Tell whether the window has as many batches as it should: the last one of an epoch may be shorter."""
    window = trainer.accumulate_grad_batches
    batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return window == 1 or batches % window == 0
