"""Let the other ranks know of a loss that breaks on one: its gradients carry the news."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import unserializable_hook

from lightning_debugkit.core.compat import unseen


def contagion(loss: Tensor, report: Callable[[Exception], None]) -> Any:
    """Return a hook that turns the gradient of a broken loss to NaN, and leaves that of a sound one as it is."""

    @unserializable_hook  # type: ignore[untyped-decorator]  # else torch warns where a loss that has it is saved
    @unseen
    def hook(grad: Tensor) -> Tensor | None:
        try:
            return torch.where(torch.isfinite(loss).all(), grad, torch.full_like(grad, math.nan))
        except Exception as error:  # the backward pass is the user's: it goes on
            report(error)
            return None

    return hook
