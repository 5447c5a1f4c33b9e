"""The optimism of the best of many: closed forms, simulation, correlation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from lightning_debugkit.stats.selection import error_correlation, expected_maximum, rate_error, selection_optimism


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, 0.0), (2, 1 / math.sqrt(math.pi)), (3, 1.5 / math.sqrt(math.pi)), (5, None), (50, None), (100_000, None)],
)
def test_the_expected_maximum_is_its_closed_form_or_scipys_integral(count: int, expected: float | None) -> None:
    if expected is None:
        expected, _ = quad(lambda x: x * count * norm.pdf(x) * norm.cdf(x) ** (count - 1), -9, 12, points=[0, 4])
    assert expected_maximum(count) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("choices", "n", "points"), [(10, 500, 2.0), (50, 500, 2.9), (50, 5_000, 0.94), (50, 50_000, 0.30)]
)
def test_the_best_of_equal_checkpoints_looks_better_as_in_simulations(choices: int, n: int, points: float) -> None:
    """``points``: of a simulation made elsewhere; binomial counts have a shorter lower tail than normal numbers."""
    found = 100 * selection_optimism(rate_error(0.1, n), choices)
    runs = np.random.default_rng(0).binomial(n, 0.1, (20_000, choices))
    assert found == pytest.approx(100 * (0.1 - runs.min(axis=1).mean() / n), rel=0.05)
    assert found == pytest.approx(points, rel=0.05)
    assert found <= 100 * rate_error(0.1, n) * math.sqrt(2 * math.log(choices))


def mistakes(rng: np.random.Generator, checkpoints: int, n: int, shared: float) -> np.ndarray:
    """One tenth wrong; a sample is the same for all checkpoints with the chance ``shared``."""
    common = rng.random((1, n)) < 0.1
    own = rng.random((checkpoints, n)) < 0.1
    return np.where(rng.random((1, n)) < shared, common, own)


@pytest.mark.parametrize("shared", [0.0, 0.5, 0.9])
def test_shared_mistakes_make_the_choice_less_optimistic(shared: float) -> None:
    rng = np.random.default_rng(1)
    runs = [mistakes(rng, 20, 5_000, shared) for _ in range(300)]
    correlation = float(np.mean([error_correlation(run) for run in runs]))
    optimism = float(np.mean([run.mean() - run.mean(axis=1).min() for run in runs]))
    assert correlation == pytest.approx(shared, abs=0.02)
    assert selection_optimism(rate_error(0.1, 5_000), 20, correlation) == pytest.approx(optimism, rel=0.05)


def test_the_correlation_is_the_mean_of_numpys_where_all_vary_alike() -> None:
    wrong = np.array([[1, 1, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0], [0, 0, 0, 0, 1, 1]])
    table = np.corrcoef(wrong)
    pairs = table[np.triu_indices(3, 1)]
    assert error_correlation(torch.from_numpy(wrong).bool()) == pytest.approx(pairs.mean())


@pytest.mark.parametrize("wrong", [[[1, 0, 1]], [[0, 0], [0, 0]], [[1, 1], [0, 0]]])
def test_what_does_not_vary_has_no_correlation(wrong: list[list[int]]) -> None:
    assert error_correlation(wrong) == 0.0


@settings(deadline=None)
@given(choices=st.integers(1, 500), correlation=st.floats(-0.5, 1.5))
def test_optimism_is_never_negative(choices: int, correlation: float) -> None:
    assert selection_optimism(0.01, choices, correlation) >= 0


def test_one_checkpoint_was_not_chosen() -> None:
    assert selection_optimism(0.5, 1) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="expected_maximum needs count >= 1, got 0"):
        expected_maximum(0)
