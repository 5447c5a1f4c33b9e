"""Schedule-free optimizers that are in the wrong mode: their weights for training are not those to use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch.optim import Optimizer

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule

MODE = Rule("optimizer-mode", Severity.WARNING, "{optimizer} {told}", "{remedy}", section="optimization")

_EVAL = (
    "Call optimizer.eval() in on_validation_model_eval (and before saving or testing) and optimizer.train() in "
    "on_validation_model_train, for each of self.optimizers()."
)
_TRAIN = "Call optimizer.train() in on_train_epoch_start, for each of self.optimizers()."


class OptimizerModes:
    """Ask the mode that such optimizers keep in their groups."""

    def __init__(self) -> None:
        self._validated = False

    def before_step(self, where: Where, optimizer: Optimizer) -> Iterator[Finding]:
        """Yield a step that is taken in eval mode."""
        if _mode(optimizer) is False:
            told = "steps in eval mode: it moves the average as if it were the point where gradients are taken"
            yield MODE.found(where, optimizer=type(optimizer).__name__, told=told, remedy=_TRAIN)

    def validating(self, where: Where, optimizers: Iterable[Optimizer]) -> Iterator[Finding]:
        """Yield an optimizer that is in train mode while validation begins."""
        self._validated = True
        for optimizer in optimizers:
            if _mode(optimizer):
                told = (
                    "is in train mode while validation runs: validation and checkpoints see the point where gradients "
                )
                told += "are taken, not the averaged weights that are meant"
                yield MODE.found(where, optimizer=type(optimizer).__name__, told=told, remedy=_EVAL)

    def conclude(self, where: Where, optimizers: Iterable[Optimizer]) -> Iterator[Finding]:
        """Yield an optimizer that a fit without validation leaves in train mode."""
        for optimizer in optimizers:
            if _mode(optimizer) and not self._validated:
                told = "is left in train mode: the weights are the point where gradients are taken, not the average"
                yield MODE.found(where, optimizer=type(optimizer).__name__, told=told, remedy=_EVAL)


def _mode(optimizer: Any) -> bool | None:
    """Return whether a schedule-free optimizer is in train mode, ``None`` for optimizers without modes."""
    if not (callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None))):
        return None
    held = optimizer.param_groups[0].get("train_mode", getattr(optimizer, "train_mode", None))
    return held if isinstance(held, bool) else None
