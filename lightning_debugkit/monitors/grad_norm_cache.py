"""The norms of an optimizer's gradients, computed once however many callbacks look at the same step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightning_debugkit.core.optimizers import ParameterList
from lightning_debugkit.core.run import current_run
from lightning_debugkit.stats.tensor_norms import each_norm as norms
from lightning_debugkit.stats.tensor_norms import versions

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


@dataclass(eq=False)
class GradientNorms:
    """The norms of the gradients that an optimizer is about to use.

    Args:
        held: The parameters.
        present: Which of them have a gradient; ``None`` if all have one.
        each: Norm of each gradient, each of shape () on its device; the loss scale is still in them where an optimizer
            takes it out itself.
        numbers: The same in host memory, the scale taken out, once somebody has read it.
    """

    held: ParameterList
    present: Sequence[int] | None
    each: Sequence[Tensor]
    numbers: NDArray[np.float64] | None = None

    @property
    def total(self) -> float:
        """Norm of all together, once the numbers are known."""
        return math.sqrt(np.dot(self.numbers, self.numbers)) if self.numbers is not None else math.nan


def gradients_of(held: ParameterList) -> tuple[list[Tensor], list[int] | None]:
    """Return the gradients that are there, and which they are; ``None`` for the latter if all are."""
    every = [p.grad for p in held.parameters]
    gradients = [grad for grad in every if grad is not None]
    if len(gradients) == len(every):
        return gradients, None
    return gradients, [index for index, grad in enumerate(every) if grad is not None]


def shared_norms(trainer: Trainer, moment: int, held: ParameterList) -> GradientNorms:
    """Return the norm of each gradient, from the callback that asked before if there was one.

    Args:
        trainer: The Trainer that both watch.
        moment: How often ``on_before_optimizer_step`` has been called in this fit; equal for all who ask in one call.
        held: The parameters of one optimizer.
    """
    run = current_run(trainer)
    gradients, present = gradients_of(held)
    if run is None or run.norm_readers < 2:  # nobody to share with
        return GradientNorms(held, present, [*norms(gradients)])
    # The versions tell of a third callback that has changed the gradients in between.
    key = (moment, tuple(map(id, gradients)), versions(gradients))
    if run.norms is None or run.norms[0] != key:
        run.norms = (key, GradientNorms(held, present, [*norms(gradients)]))
    shared: GradientNorms = run.norms[1]
    return shared
