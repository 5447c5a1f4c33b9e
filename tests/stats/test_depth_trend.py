"""Fading through depth, and its rank correlation against scipy's."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from lightning_debugkit.stats.depth_trend import fades, rank_correlation

small = st.integers(-5, 5).map(float)  # ties are likely


@settings(max_examples=150, deadline=None)
@given(values=st.lists(small, min_size=2, max_size=20))
def test_rank_correlation_is_scipys_ties_included(values: list[float]) -> None:
    assume(len(set(values)) > 1)
    assert rank_correlation(values) == pytest.approx(spearmanr(values, range(len(values))).statistic, abs=1e-12)


@pytest.mark.parametrize("values", [[], [3.0], [2.0, 2.0, 2.0]])
def test_what_does_not_vary_correlates_with_nothing(values: list[float]) -> None:
    assert rank_correlation(values) == 0


def chain(factor: float, layers: int) -> list[float]:
    """Gradient over weight norm of each layer, input first, when each layer back multiplies by ``factor``."""
    return [0.1 * factor ** (layers - 1 - index) for index in range(layers)]


@settings(max_examples=100, deadline=None)
@given(factor=st.floats(0.01, 1.5), layers=st.integers(2, 12))
def test_a_geometric_decay_fades_once_it_is_deep_and_strong_enough(factor: float, layers: int) -> None:
    ratios = chain(factor, layers)
    lost = ratios[0] / max(ratios)
    assume(not 0.99e-4 < lost < 1.01e-4)
    assert fades(ratios) is (layers >= 5 and lost < 1e-4)


@settings(max_examples=60, deadline=None)
@given(ratios=st.lists(st.floats(1e-10, 1e3), min_size=5, max_size=12), scale=st.floats(1e-3, 1e3))
def test_the_unit_of_the_gradient_does_not_matter(ratios: list[float], scale: float) -> None:
    assume(abs(ratios[0] / max(ratios) / 1e-4 - 1) > 1e-6)
    assert fades([scale * ratio for ratio in ratios]) is fades(ratios)


@pytest.mark.parametrize("weak", range(6))
def test_one_small_layer_is_no_fading(weak: int) -> None:
    ratios = [0.1] * 6
    ratios[weak] = 1e-9
    assert not fades(ratios)


def test_gradients_that_grow_towards_the_input_do_not_fade() -> None:
    assert not fades(chain(0.01, 8)[::-1])


def test_a_layer_without_gradient_is_no_fading() -> None:
    """Exactly zero is another fault, with another name."""
    assert not fades([0.0, *chain(0.01, 6)])
