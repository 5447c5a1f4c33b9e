"""Fading through depth."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lightning_debugkit.monitors.gradients.vanishing_exploding import fades


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
