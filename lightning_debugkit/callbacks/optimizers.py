"""What several callbacks ask about an optimizer and the step that it is about to take."""

from __future__ import annotations

from collections.abc import Iterable

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim import Optimizer

from lightning_debugkit.callbacks.packages import twins
from lightning_debugkit.callbacks.sharding import bare


def raw(optimizer: Optimizer | LightningOptimizer) -> Optimizer:
    """Return the torch optimizer inside of Lightning's."""
    if isinstance(optimizer, twins(LightningOptimizer)):
        inner: Optimizer = optimizer.optimizer
        return inner
    return optimizer  # type: ignore[return-value]  # what is left is torch's own


def held_by(optimizers: Iterable[Optimizer]) -> set[int]:
    """Return the parameters that any of the optimizers holds, by ``id``."""
    return {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}


class Parameters:
    """Path and tensor of each parameter of an optimizer, looked up anew only when its groups have changed."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[tuple[int, ...], list[str], list[Tensor]]] = {}

    def of(self, module: LightningModule, optimizer: Optimizer) -> tuple[list[str], list[Tensor]]:
        """Return paths and parameters in the optimizer's order."""
        held = [p for group in optimizer.param_groups for p in group["params"]]
        key = tuple(map(id, held))
        known = self._known.get(id(optimizer))
        if known is None or known[0] != key:
            paths = {id(p): bare(name) for name, p in module.named_parameters()}
            names = [paths.get(id(p), f"(not in the model) {index}") for index, p in enumerate(held)]
            known = self._known[id(optimizer)] = (key, names, held)
        return known[1], known[2]


def scale_left(trainer: Trainer, optimizer: Optimizer) -> float:
    """Return the loss scale that is still in the gradients: fused optimizers divide by it in their own step."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is None or not getattr(optimizer, "_step_supports_amp_scaling", False):
        return 1.0
    return float(scaler.get_scale())


def is_whole(trainer: Trainer) -> bool:
    """Tell whether the window has as many batches as it should: the last one of an epoch may be shorter."""
    window = trainer.accumulate_grad_batches
    batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return window == 1 or batches % window == 0
