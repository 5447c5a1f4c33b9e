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


WORDS = 624  # that the usual generator makes at a time: its position is then what it was
MOVES = {
    "all words of python's": (lambda: [random.getrandbits(32) for _ in range(WORDS)], random.random),
    "all words of numpy's": (lambda: np.random.bytes(4 * WORDS), np.random.rand),
    "python's seed": (lambda: random.seed(random.getrandbits(30)), random.random),
    "numpy's seed": (lambda: np.random.seed(np.random.randint(2**30)), np.random.rand),
}


@pytest.mark.parametrize("name", MOVES)
def test_a_look_sees_whatever_has_moved_a_generator_since_the_last_one(name: str) -> None:
    move, draw = MOVES[name]
    move()
    for _ in range(3):
        RandomState.capture()
        move()
        state = RandomState.capture()
        expected = draw()
        state.restore()
        assert draw() == expected
        state.restore()
