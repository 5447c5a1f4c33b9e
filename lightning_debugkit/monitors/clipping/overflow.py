"""Clipping by a norm that overflows: finite gradients become zeros."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from lightning_debugkit.core.compat import divides_by_scale
from lightning_debugkit.core.finding import Finding, Severity
from lightning_debugkit.core.host_copy import read
from lightning_debugkit.core.optimizers import held_in
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.monitors.clipping.clipped_step import PendingClippedStep
from lightning_debugkit.stats.tensor_norms import values

ZEROED = Rule(
    "gradients-zeroed-by-clipping",
    Severity.ERROR,
    "clipping turned the gradients of {count} of {steps} steps into zeros, first at step {first}: they are finite"
    "{size}, but their norm overflows {kind}, and threshold/inf is 0",
    "Make the loss smaller: check the units of targets and outputs, or divide the loss. Otherwise clip by value "
    "first (clip_grad_value_), or pass error_if_nonfinite=True to get an error.",
    section="clipping",
)


class Overflow:
    """Count the steps of one optimizer whose clipping saw an infinite norm of finite gradients."""

    def __init__(self) -> None:
        self.at: list[int] = []
        self.steps = 0

    def take(
        self,
        steps: int,
        drafts: Sequence[PendingClippedStep],
        optimizer: Optimizer,
        scaler: object,
        wide: Mapping[int, float],
    ) -> Finding | None:
        """Return the finding if such steps are among the last.

        A step that was taken with infinite gradients leaves NaN in the weights (0 times infinity): weights that are
        finite afterwards tell that the gradients were, too. They are read only where a norm was infinite.

        Args:
            steps: Steps since the last call.
            drafts: Those among them whose norm was infinite.
            scaler: The GradScaler, if there is one; an optimizer that is handed its scale skips within its own step.
            wide: Norms in 64 bits by step, as far as somebody has measured them.
        """
        self.steps += steps
        skips = scaler is not None and divides_by_scale(optimizer)
        # Where the threshold is infinite, somebody asks for the norm and clips nothing.
        zeroed = [d for d in drafts if d.is_taken and d.by == "norm" and d.threshold not in (None, math.inf)]
        if skips or not zeroed or not _is_finite(optimizer):
            return None
        self.at += sorted({draft.where.step for draft in zeroed})
        norm = next((wide[step] for step in self.at if step in wide), None)
        kind = zeroed[0].kind
        size = "" if norm is None else f" (norm {norm:.3g})"
        evidence: dict[str, Any] = {
            "count": len(self.at),
            "steps": self.steps,
            "first": self.at[0],
            "norm": norm,
            "kind": kind,
        }
        return ZEROED.found(zeroed[0].where, size=size, at_steps=self.at[:20], **evidence)


def _is_finite(optimizer: Optimizer) -> bool:
    held = [values(p) for p in held_in(optimizer)]
    return bool(read([], [torch.isfinite(p).all() for p in held if p.numel()]).all())
