"""The loss of the best constant is no higher than that of any other, and that of the one it is said to be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_debugkit.stats.constant_answers import LEAST_LOSS

TARGETS = torch.distributions.Gamma(2.0, 1.0).sample((400, 2)).double()
CASES = {
    "mse_loss": TARGETS, "l1_loss": TARGETS, "huber_loss": TARGETS, "smooth_l1_loss": TARGETS,
    "poisson_nll_loss": TARGETS.round(), "binary_cross_entropy_with_logits": (TARGETS > 2).double(),
}  # fmt: skip


def of_constant(name: str, targets: Tensor, answer: float) -> float:
    return float(getattr(F, name)(torch.full_like(targets, answer), targets))


@pytest.mark.parametrize("name", sorted(LEAST_LOSS))
def test_it_is_the_least_over_a_grid_of_constants(name: str) -> None:
    columns = CASES[name].split(1, dim=1)
    grid = torch.linspace(-4, 6, 2001).tolist()
    found = sum(min(of_constant(name, column, answer) for answer in grid) for column in columns) / len(columns)
    assert LEAST_LOSS[name](CASES[name]) == pytest.approx(found, rel=1e-3)
