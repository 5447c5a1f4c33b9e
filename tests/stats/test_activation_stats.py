"""The few numbers that a look takes of a tensor, against autograd and against loops."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_debugkit.stats import activation_stats

LINE = torch.linspace(-20, 20, 400_001, dtype=torch.float64)


def slope(name: str) -> Tensor:
    x = LINE.clone().requires_grad_()
    (found,) = torch.autograd.grad(getattr(F, name)(x).sum(), x)
    return found.abs()


@pytest.mark.parametrize("name", activation_stats.FLOORS)
def test_below_its_floor_a_function_has_less_than_a_hundredth_of_its_largest_derivative(name: str) -> None:
    found = slope(name)
    is_steep = found >= 0.01 * found.max()
    assert float(LINE[is_steep].min()) == pytest.approx(activation_stats.FLOORS[name], abs=2e-3)


@pytest.mark.parametrize(
    ("name", "limit", "middle"), [("tanh", activation_stats.TANH, 0), ("sigmoid", activation_stats.SIGMOID, 0.5)]
)
def test_beyond_its_ends_too(name: str, limit: float, middle: float) -> None:
    found = slope(name)
    outputs = getattr(torch, name)(LINE)
    is_flat = (outputs >= limit) | (outputs <= 2 * middle - limit)
    # The limit is written to five digits.
    assert float(found[is_flat].max()) < 0.0101 * found.max()
    assert float(found[~is_flat].min()) > 0.0099 * found.max()


@settings(max_examples=60, deadline=None)
@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=4), data=st.data())
def test_numbers_of_units_are_those_of_a_loop(shape: list[int], data: st.DataObject) -> None:
    unit = data.draw(st.integers(0, len(shape) - 1))
    x = torch.randn(shape)
    parts = [x.select(unit, index) for index in range(shape[unit])]
    assert torch.equal(activation_stats.peaks(x, unit), torch.stack([part.max() for part in parts]))
    ends = [[(part <= -0.5).float().mean(), (part >= 0.8).float().mean()] for part in parts]
    assert torch.allclose(activation_stats.at_ends(x, unit, -0.5, 0.8), torch.tensor(ends).T)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_root_mean_square_does_not_overflow(dtype: torch.dtype) -> None:
    assert float(activation_stats.rms(torch.full((300, 300), 1000.0, dtype=dtype))) == pytest.approx(1000, rel=0.01)


@pytest.mark.parametrize("shape", [(4000, 300), (2, 700_000), (900, 1300), (3, 500, 1000)])
def test_what_is_thinned_keeps_the_unit_whole_and_the_mean_close(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    for unit in range(len(shape)):
        some = activation_stats.thinned(x, keep=unit)
        assert some.shape[unit] == shape[unit]
        assert some.numel() < x.numel()
    assert activation_stats.thinned(x).numel() <= 1.1 * activation_stats.MOST
    assert float(activation_stats.rms(x)) == pytest.approx(float(x.square().mean().sqrt()), abs=0.01)


def hard(row: Tensor) -> bool:
    """Second road: the derivative of each probability by its own score."""
    row = row.clone().requires_grad_()
    own = [torch.autograd.grad(torch.softmax(row, 0)[index], row)[0][index] for index in range(len(row))]
    return bool((torch.stack(own).abs() < 0.01 * 0.25).all())


@settings(max_examples=60, deadline=None)
@example(scale=37.15625, keys=5, seed=185)  # a derivative of 1.001 times the bound
@given(scale=st.floats(0.1, 40), keys=st.integers(2, 6), seed=st.integers(0, 1000))
def test_one_hot_rows_are_those_with_no_slope(scale: float, keys: int, seed: int) -> None:
    scores = scale * torch.randn(7, keys, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = activation_stats.hard_rows(scores)
    assert found.tolist() == [sum(hard(row) for row in scores), 7]


@pytest.mark.parametrize("mask", [-math.inf, torch.finfo(torch.float32).min, -1e9, -1e4])
def test_rows_without_a_choice_do_not_count(mask: float) -> None:
    """Under a causal mask the first query has one key."""
    scores = torch.zeros(5, 5).masked_fill(torch.ones(5, 5).triu(1).bool(), mask)
    assert activation_stats.hard_rows(scores).tolist() == [0, 4]


def test_a_row_that_is_all_masked_is_no_row() -> None:
    assert activation_stats.hard_rows(torch.full((3, 4), -math.inf)).tolist() == [0, 0]


def test_variation_is_that_of_the_entry_that_varies_most() -> None:
    x = torch.randn(6, 3, 2)
    entries = x.flatten(1).T
    expected = [max(float(e.max() - e.min()) for e in entries), float(x.abs().max())]
    assert activation_stats.variation(x).tolist() == pytest.approx(expected)


def test_numbers_come_to_the_host_in_their_shapes_and_order() -> None:
    values = [torch.tensor(3.0), torch.arange(6.0).reshape(2, 3), torch.tensor(True), torch.zeros(0)]
    found = activation_stats.to_host(values)
    assert [tuple(value.shape) for value in found] == [(), (2, 3), (), (0,)]
    assert torch.equal(found[1], values[1])
    assert float(found[2]) == 1
