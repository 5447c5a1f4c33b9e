"""The norms of an optimizer's gradients, computed once however many callbacks look at the same step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from lightning_debugkit.core.run import current_run
from lightning_debugkit.stats.tensor_norms import norms, version

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


def shared_norms(trainer: Trainer, moment: int, gradients: Sequence[Tensor]) -> Tensor:
    """Return the norm of each gradient, from the callback that asked before if there was one.

    Args:
        trainer: The Trainer that both watch.
        moment: How often ``on_before_optimizer_step`` has been called in this fit; equal for all who ask in one call.
        gradients: Of one optimizer, in its order.

    Shapes:
        gradients: any shapes; returns (len(gradients),) on their device.
    """
    run = current_run(trainer)
    # The versions tell of a third callback that has changed the gradients in between.
    key = (moment, tuple(version(gradient) for gradient in gradients))
    if run is not None and run.norms is not None and run.norms[0] == key:
        return run.norms[1]
    found = norms(gradients)
    if run is not None:
        run.norms = (key, found)
    return found
