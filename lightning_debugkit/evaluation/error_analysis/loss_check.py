"""Whether the loss of the samples is the loss of the step: then the answers read are those it was asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lightning_debugkit.evaluation.error_analysis.scoring import score_batch
from lightning_debugkit.evaluation.error_analysis.task import Task
from lightning_debugkit.evaluation.predictions.readings import Reading

Apart: TypeAlias = tuple[float, float]  # of the mean, and of the sum, of the samples' losses

_FIRST, _EVERY = 4, 16
_CLOSE = 1e-3
_HALF = 2e-2  # what bfloat16 leaves of a loss


class LossCheck:
    """Compare the mean loss of batches with what its step returned, without a wait for the device."""

    def __init__(self) -> None:
        self._batches = 0
        self._apart: Tensor | None = None
        self._half = False

    def compare(self, outputs: Any, form: Task, found: Reading) -> None:
        """Compare a batch: each of the first, then one in a while."""
        self._batches += 1
        if self._batches > _FIRST and self._batches % _EVERY:
            return
        theirs = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if not isinstance(theirs, Tensor) or theirs.numel() != 1 or not isinstance(found.predictions, Tensor):
            return
        look = score_batch(form, found)
        counts = look.size > 0
        total = torch.where(counts, look.loss * look.size, 0.0).sum()
        # A step may return the mean of its samples' losses, or with reduction="sum" the sum.
        ours = torch.stack([total / look.size.sum(), total])
        theirs = theirs.detach().float().reshape(()).to(total.device)
        apart = (ours - theirs).abs() / theirs.abs().clamp(min=1e-6)
        # Tiny losses differ by rounding alone; a batch of targets to ignore has none.
        is_close = ((ours - theirs).abs() < 1e-6) | ((look.size.sum() == 0) & ~look.broken.any())
        apart = torch.where(is_close, 0.0, apart)
        self._apart = apart if self._apart is None else torch.maximum(self._apart, apart)
        self._half = self._half or found.predictions.dtype != torch.float32

    def result(self) -> Apart | None:
        """Return the largest relative differences in terms of what is tolerated, ``None`` if there was no loss."""
        if self._apart is None:
            return None
        mean, total = (self._apart / (_HALF if self._half else _CLOSE)).tolist()
        return mean, total

    @staticmethod
    def differs(results: Sequence[Apart | None]) -> bool:
        """Tell whether neither the mean nor the sum of the losses of the samples is the loss of the step."""
        known = [result for result in results if result is not None]
        return bool(known) and any(min(result) > 1 for result in known)

    @staticmethod
    def told(results: Sequence[Apart | None], form: Task) -> str:
        """Return what the comparisons of all ranks say, empty where samples have no loss of their own."""
        if form.scores == "classes":
            return ""
        kind = f"plain {'binary ' if form.channel is None else ''}cross entropy"
        known = [result for result in results if result is not None]
        if not known:
            return f"The step returns no loss to compare with: the loss of a sample is {kind}."
        if not all(math.isfinite(apart) for result in known for apart in result):
            return "The losses of the samples are not verified: some are not finite, or the step's own loss is not."
        mean, total = (max(parts) for parts in zip(*known, strict=True))
        if mean <= 1:
            return "The losses of the samples are verified: their mean is the loss that the step returns."
        if total <= 1:
            return "The losses of the samples are verified: their sum is the loss that the step returns."
        return (
            "The step's own loss is another (weights of classes, label smoothing, a further term): "
            f"samples are ranked by {kind}."
        )
