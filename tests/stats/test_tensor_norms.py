"""Norms, bits and samples of tensors against slow second roads."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_debugkit.stats.tensor_norms import bits, norms, some

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def slowly(tensors: list[Tensor]) -> Tensor:
    """One norm after the other, in double precision."""
    return torch.tensor([float(torch.linalg.vector_norm(tensor.double())) for tensor in tensors], dtype=torch.float64)


@pytest.mark.parametrize("dtype", FLOATS)
def test_norms_are_those_of_a_loop(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(shape).to(dtype) for shape in ((3,), (4, 5), (2, 3, 4), (), (1,), (700,))]
    torch.testing.assert_close(norms(tensors).double(), slowly(tensors), rtol=1e-5, atol=0)


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.tuples(st.sampled_from(FLOATS), st.integers(1, 40)), min_size=1, max_size=8),
    exponent=st.integers(-3, 3),
)
def test_norms_of_mixed_types_are_those_of_a_loop(kinds: list[tuple[torch.dtype, int]], exponent: int) -> None:
    generator = torch.Generator().manual_seed(len(kinds))
    tensors = [(torch.randn(n, generator=generator) * 10.0**exponent).to(dtype) for dtype, n in kinds]
    found = norms(tensors)
    torch.testing.assert_close(found.double(), slowly(tensors), rtol=1e-5, atol=0)
    assert found.dtype == (torch.float64 if torch.float64 in [dtype for dtype, _ in kinds] else torch.float32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_norm_beyond_half_precision_is_finite(dtype: torch.dtype) -> None:
    """Four entries of 60 000 have a norm of 120 000, which float16 cannot hold."""
    tensor = torch.full((4,), 60_000.0).to(dtype)
    (found,) = norms([tensor])
    assert found == 2 * float(tensor[0])
    assert tensor.norm().isinf() == (dtype == torch.float16)


def test_a_sparse_gradient_has_the_norm_of_its_dense_form() -> None:
    """Rows that were looked up twice are added before they are measured."""
    table = torch.nn.Embedding(10, 3, sparse=True)
    table(torch.tensor([1, 1, 4])).square().sum().backward()
    assert not table.weight.grad.is_coalesced()
    torch.testing.assert_close(norms([table.weight.grad])[0], torch.linalg.vector_norm(table.weight.grad.to_dense()))


def test_no_tensors_have_no_norms() -> None:
    assert norms([]).shape == (0,)


def test_an_empty_tensor_has_norm_zero() -> None:
    assert norms([torch.zeros(0, 3), torch.ones(4)]).tolist() == [0.0, 2.0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_number_that_is_not_finite_spoils_its_norm_alone(value: float, dtype: torch.dtype) -> None:
    broken = torch.ones(9, dtype=dtype)
    broken[4] = value
    assert torch.isfinite(norms([torch.ones(9, dtype=dtype), broken, torch.ones(2)])).tolist() == [True, False, True]


def test_norms_carry_no_graph_and_leave_their_tensors_alone() -> None:
    weight = torch.ones(3, requires_grad=True)
    version = weight._version
    assert not norms([weight]).requires_grad
    assert (weight._version, weight.tolist()) == (version, [1.0] * 3)


WIDTHS = (
    torch.bool,
    torch.uint8,
    torch.int16,
    torch.bfloat16,
    torch.float32,
    torch.int64,
    torch.float64,
    torch.complex64,
)


@pytest.mark.parametrize("dtype", WIDTHS)
def test_equal_bits_give_the_same_number(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    tensor = (torch.randn(7, 5) * 50).abs().to(dtype)
    assert bits(tensor) == bits(tensor.clone())
    assert bits(tensor) == bits(tensor.t().contiguous().t())


@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=50), data=st.data())
def test_one_changed_entry_is_seen(values: list[float], data: st.DataObject) -> None:
    tensor = torch.tensor(values)
    index = data.draw(st.integers(0, len(values) - 1))
    changed = tensor.clone()
    changed.view(torch.int32)[index] ^= 1 << data.draw(st.integers(0, 30))
    assert bits(changed) != bits(tensor)


@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.integers(-1000, 1000), min_size=2, max_size=50), data=st.data())
def test_two_swapped_entries_are_seen(values: list[int], data: st.DataObject) -> None:
    one = data.draw(st.integers(0, len(values) - 2))
    other = data.draw(st.integers(one + 1, len(values) - 1))
    swapped = list(values)
    swapped[one], swapped[other] = values[other], values[one]
    same = values[one] == values[other]
    assert (bits(torch.tensor(values).float()) == bits(torch.tensor(swapped).float())) is same


def test_bits_do_not_lie_where_comparison_does() -> None:
    nan, zero = torch.tensor([math.nan]), torch.tensor([0.0])
    payload = torch.tensor([0x7FC00001], dtype=torch.int32).view(torch.float32)
    assert payload.isnan()
    assert bits(nan) == bits(nan.clone())
    assert bits(nan) != bits(payload)
    assert bits(zero) != bits(-zero)


def test_an_entry_of_a_bool_or_complex_tensor_counts() -> None:
    assert bits(torch.tensor([True, False])) != bits(torch.tensor([False, True]))
    assert bits(torch.tensor([1 + 2j])) != bits(torch.tensor([1 - 2j]))
    assert bits(torch.tensor([1 + 2j], dtype=torch.complex128)) != bits(torch.tensor([2 + 1j], dtype=torch.complex128))


def test_a_conjugated_view_has_the_bits_of_its_values() -> None:
    tensor = torch.tensor([1 + 2j, 3 - 1j])
    assert bits(tensor.conj()) == bits(tensor.conj().resolve_conj().clone())


def test_a_scalar_and_nothing_have_bits() -> None:
    assert bits(torch.tensor(2.5)) == bits(torch.tensor([2.5]))
    assert bits(torch.zeros(0)) == 0


@settings(max_examples=100, deadline=None)
@given(size=st.integers(0, 3000), count=st.integers(1, 300))
def test_some_are_at_most_count_evenly_spread_entries(size: int, count: int) -> None:
    found = some(torch.arange(size), count)
    assert len(found) <= count
    assert len(found) == size or len(found) > count / 2 - 1
    if size:
        steps = set(found.diff().tolist())
        assert found[0] == 0
        assert len(steps) <= 1
        assert size - int(found[-1]) <= max(steps, default=size)


def test_some_is_a_copy_that_the_weights_do_not_move() -> None:
    weight = torch.nn.Parameter(torch.ones(4, 4))
    kept = some(weight, 4)
    with torch.no_grad():
        weight.zero_()
    assert kept.tolist() == [1.0] * 4
    assert not kept.requires_grad
