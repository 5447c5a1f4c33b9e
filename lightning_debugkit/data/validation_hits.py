"""Right answers by class in the last validation, counted as its loss functions are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_debugkit.core.loss_functions import INDEX_LOSSES
from lightning_debugkit.core.step_hooks import LossWatch
from lightning_debugkit.core.trivial_answer import AgainstTrivial, against_constant


class ValidationHits(LossWatch):
    """Count the answers that ``cross_entropy`` or ``nll_loss`` is given in the validation steps of one validation."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: list[Tensor] = []  # (2, classes) of each call: right answers, and all, by true class

    def take(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Count the answers of a call that has a row of scores for each class number."""
        super().take(name, args, kwargs)
        calls, self.calls = self.calls, []
        for _, scores, target, _ in calls:
            is_plain = name in INDEX_LOSSES and scores.ndim == 2 and target.ndim == 1
            if is_plain and not target.is_floating_point() and bool(((target >= 0) & (target < scores.shape[1])).all()):
                right = target[scores.argmax(1) == target]
                self._counts.append(torch.stack([each.bincount(minlength=scores.shape[1]) for each in (right, target)]))

    def compared(self) -> AgainstTrivial | None:
        """Return the answers beside the most frequent class, ``None`` without any or with classes that changed."""
        if not self._counts or len({counts.shape for counts in self._counts}) > 1:
            return None
        hits, support = torch.stack(self._counts).sum(0).cpu().numpy().astype(np.int64)
        return against_constant(hits, support)
