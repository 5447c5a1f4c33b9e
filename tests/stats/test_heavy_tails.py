"""Tails: against samples of known index, numpy, and what must not matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_debugkit.stats.heavy_tails import above_usual, tail_index

positive = st.lists(st.floats(0.01, 100), min_size=2, max_size=200)
hundredths = st.lists(st.integers(1, 10_000).map(lambda count: count / 100), min_size=2, max_size=200)


@pytest.mark.parametrize("alpha", [0.8, 1.5, 3.0])
def test_the_upper_limit_covers_the_index_of_pareto_samples(alpha: float) -> None:
    generator = np.random.default_rng(0)
    covered = [alpha <= tail_index((generator.pareto(alpha, 500) + 1).tolist())[1] for _ in range(400)]
    assert 0.93 < np.mean(covered) <= 1


def test_ordinary_spread_is_no_heavy_tail() -> None:
    generator = np.random.default_rng(0)
    for sigma in (0.1, 0.5, 1.0):
        uppers = [tail_index(generator.lognormal(0, sigma, 400).tolist())[1] for _ in range(200)]
        assert np.mean(np.array(uppers) < 2) < 0.02


@given(hundredths, st.floats(0.01, 100))
def test_the_unit_does_not_matter(values: list[float], unit: float) -> None:
    """Of values further apart than the product is rounded."""
    index, upper = tail_index(values)
    assert tail_index([unit * value for value in values]) == pytest.approx((index, upper), rel=1e-6)


@given(positive)
def test_the_order_does_not_matter(values: list[float]) -> None:
    assert tail_index(values) == tail_index(sorted(values))


def test_without_a_spread_there_is_no_tail() -> None:
    assert tail_index([2.0] * 50) == (np.inf, np.inf)
    assert tail_index([0.0] * 50) == (np.inf, np.inf)
    assert tail_index([1.0]) == (np.inf, np.inf)


@given(st.lists(st.floats(0.01, 100), min_size=12, max_size=60))
def test_the_usual_value_is_the_larger_of_two_medians(values: list[float]) -> None:
    windows = np.lib.stride_tricks.sliding_window_view(values, 10)[:-1]
    usual = np.maximum(np.median(windows, axis=1), np.median(values[:10]))
    assert above_usual(values, window=10) == pytest.approx((np.array(values[10:]) / usual).tolist())


def test_a_converged_series_has_no_spikes_below_where_it_began() -> None:
    falling = [10 * 0.97**step for step in range(300)]
    falling[250] = 4.0  # a thousand times its neighbours, and below the usual of the beginning
    assert max(above_usual(falling)) < 1
