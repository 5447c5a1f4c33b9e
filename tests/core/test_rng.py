"""All generators draw again what they drew."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from lightning_debugkit.core.rng import RandomState

DRAWS = {
    "python": lambda: [random.random(), random.gauss(0, 1)],
    "numpy": lambda: np.random.normal(size=3).tolist(),
    "torch": lambda: torch.randn(3).tolist(),
    "dropout": lambda: torch.nn.functional.dropout(torch.ones(64), 0.5).tolist(),
}


@pytest.mark.parametrize("name", DRAWS)
def test_what_was_drawn_is_drawn_again(name: str) -> None:
    draw = DRAWS[name]
    draw()  # a Gaussian generator keeps its second number for the next time
    state = RandomState.capture()
    first, second = draw(), draw()
    state.restore()
    assert [draw(), draw()] == [first, second]
    assert first != second


def test_a_look_draws_nothing() -> None:
    for draw in DRAWS.values():
        torch.manual_seed(0), np.random.seed(0), random.seed(0)
        expected = draw()
        torch.manual_seed(0), np.random.seed(0), random.seed(0)
        RandomState.capture()
        assert draw() == expected


def test_a_state_does_not_change_with_the_generators() -> None:
    state = RandomState.capture()
    kept = state.cpu.clone()
    torch.randn(100)
    assert torch.equal(state.cpu, kept)
