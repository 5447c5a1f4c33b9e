"""Clip by a percentile of the run's own gradient norms instead of a constant."""

from __future__ import annotations

from collections import deque

import numpy as np

from lightning_debugkit.core.compat import (
    LightningModule,
    MixedPrecision,
    Trainer,
    both_packages,
    divides_by_scale,
    overrides,
)

_FIRST = 10  # norms to know before they are a distribution; until then the Trainer's own threshold holds


class AutoThreshold:
    """Set ``trainer.gradient_clip_val`` before each clipping; Lightning clips as it always does.

    The norm of the step itself belongs to the distribution, as in the source.

    Args:
        percentile: Of the norms seen; those above it are clipped.
        norms: Norms seen before, oldest first.

    References:
        Seetharaman et al., AutoClip: Adaptive Gradient Clipping for Source Separation Networks, 2020, algorithm 1.
    """

    def __init__(self, percentile: float, norms: list[float] | None = None, window: int = 1000) -> None:
        self.percentile = percentile
        self.norms: deque[float] = deque(norms or (), maxlen=window)
        self._before: tuple[float | int | None] | None = None

    def next(self, trainer: Trainer, norm: float) -> None:
        """Take the norm of the step to come, and set the threshold for it."""
        if np.isfinite(norm):
            self.norms.append(norm)
        if len(self.norms) >= _FIRST:
            if self._before is None:
                self._before = (trainer.gradient_clip_val,)
            trainer.gradient_clip_val = float(np.percentile(self.norms, self.percentile))

    def restore(self, trainer: Trainer) -> None:
        """Give the Trainer its own threshold back; may be called twice."""
        if self._before is not None:
            (trainer.gradient_clip_val,) = self._before
            self._before = None


def obstacle(trainer: Trainer, module: LightningModule) -> str:
    """Say why Lightning could not clip by a threshold that it is given, empty if it can."""
    if not module.automatic_optimization:
        return "the module optimises manually, and Lightning clips nothing there"
    if overrides(module, "configure_gradient_clipping"):
        return "the module overrides configure_gradient_clipping"
    if str(trainer.gradient_clip_algorithm or "norm").rpartition(".")[2].lower() != "norm":
        return "the Trainer clips by value, and the percentile is one of norms"
    is_mixed = isinstance(trainer.precision_plugin, both_packages(MixedPrecision))
    if is_mixed and any(map(divides_by_scale, trainer.optimizers)):
        return "Lightning does not clip for fused optimizers in mixed precision"
    return ""
