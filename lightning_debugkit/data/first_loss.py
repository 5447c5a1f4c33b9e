"""What the loss of the first training step is given: which function it is, with what weights of classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional

from lightning_debugkit.core.loss_functions import CLASS_LOSSES, INDEX_LOSSES
from lightning_debugkit.core.step_hooks import LossWatch
from lightning_debugkit.core.tensor_numbers import storage

SAME = 1e-3  # what half precision leaves of a mean


class FirstLoss(LossWatch):
    """Hear the loss functions of one step. ``weights``: class weights of each call that has some."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    @property
    def function(self) -> str:
        """Name of the loss function, empty if there were none or several."""
        return self.calls[0][0] if len(self.calls) == 1 else ""

    @property
    def ignored(self) -> set[int]:
        """Targets that the loss functions were told to leave out."""
        return {ignored for _, _, _, ignored in self.calls if ignored is not None}

    def is_given(self, labels: Tensor) -> bool:
        """Tell whether a loss that compares classes was given these labels, and not others that the step made."""
        return any(name in CLASS_LOSSES and storage(target) == storage(labels) for name, _, target, _ in self.calls)

    def is_all(self, loss: float, *functions: str) -> bool:
        """Tell whether the loss of the step is the mean that one of ``functions`` gave, and nothing else."""
        if self.function not in functions:
            return False
        name, prediction, target, _ = self.calls[0]
        target = target.float() if target.is_floating_point() else target
        own = float(getattr(functional, name)(prediction.float(), target))
        return math.isclose(own, loss, rel_tol=SAME)

    def take(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Take note of a call."""
        super().take(name, args, kwargs)
        given = kwargs.get("weight")
        if self.hears and name in INDEX_LOSSES and isinstance(given, Tensor) and given.ndim == 1:
            self.weights.append(given.detach())
