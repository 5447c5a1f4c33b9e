"""What tests of counts share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def losses(logits: Tensor, target: Tensor) -> Tensor:
    """The second road: torch's own."""
    return F.cross_entropy(logits, target, reduction="none")
