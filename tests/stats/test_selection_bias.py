"""The optimism of the best of many: closed forms, simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.stats import norm

from lightning_debugkit.stats.selection_bias import expected_maximum, selection_optimism


@pytest.mark.parametrize(("count", "expected"), [(1, 0.0), (2, 1 / math.sqrt(math.pi)), (3, 1.5 / math.sqrt(math.pi))])
def test_the_expected_maximum_of_few_is_its_closed_form(count: int, expected: float) -> None:
    assert expected_maximum(count) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("count", [5, 50, 100_000])
def test_the_expected_maximum_of_many_is_the_area_above_its_distribution(count: int) -> None:
    """E max is the integral of P(max > x) above zero, less that of P(max < x) below it."""
    above, under = np.linspace(0, 12, 40_001), np.linspace(-9, 0, 40_001)
    expected = trapezoid(1 - norm.cdf(above) ** count, above) - trapezoid(norm.cdf(under) ** count, under)
    assert expected_maximum(count) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("choices", "n", "points"), [(10, 500, 2.0), (50, 500, 2.9), (50, 5_000, 0.94), (50, 50_000, 0.30)]
)
def test_the_best_of_equal_checkpoints_looks_better_as_in_simulations(choices: int, n: int, points: float) -> None:
    """``points``: of a simulation made elsewhere; binomial counts have a shorter lower tail than normal numbers."""
    error = math.sqrt(0.1 * 0.9 / n)
    found = 100 * selection_optimism(error, choices)
    runs = np.random.default_rng(0).binomial(n, 0.1, (20_000, choices))
    assert found == pytest.approx(100 * (0.1 - runs.min(axis=1).mean() / n), rel=0.05)
    assert found == pytest.approx(points, rel=0.05)
    assert found <= 100 * error * math.sqrt(2 * math.log(choices))


def test_one_checkpoint_was_not_chosen() -> None:
    assert selection_optimism(0.5, 1) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="expected_maximum needs count >= 1, got 0"):
        expected_maximum(0)
