"""The loss of the best answer that is the same for all samples, for each loss function for which it is known."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def _huber(targets: Tensor) -> float:
    from scipy import optimize  # late: it takes a while to import

    def least(column: Tensor) -> float:
        def loss(answer: float) -> float:
            return float(functional.huber_loss(torch.full_like(column, answer), column))

        bounds = float(column.min()), float(column.max())
        return float(optimize.minimize_scalar(loss, bounds=bounds, method="bounded").fun)

    return sum(map(least, targets.unbind(1))) / targets.shape[1]


def _entropy(shares: Tensor) -> Tensor:
    each: Tensor = torch.special.entr(shares) + torch.special.entr(1 - shares)
    return each


# Of targets (n, k), each column with an answer of its own: the mean of what torch's function gives by default.
LEAST_LOSS: dict[str, Callable[[Tensor], float]] = {
    "mse_loss": lambda targets: float(targets.var(0, correction=0).mean()),
    "l1_loss": lambda targets: float((targets - targets.median(0).values).abs().mean()),
    "binary_cross_entropy_with_logits": lambda targets: float(_entropy(targets.mean(0).clamp(0, 1)).mean()),
    # With the rate or with its logarithm as the answer, the best of which is the mean.
    "poisson_nll_loss": lambda targets: float((targets.mean(0) + torch.special.entr(targets.mean(0))).mean()),
    **dict.fromkeys(("huber_loss", "smooth_l1_loss"), _huber),  # one at their defaults, and no others are asked for
}
