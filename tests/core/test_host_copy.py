"""Norms that are made in host memory, and what comes along with them, against slow second roads."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_debugkit.core.host_copy import HostCopy, read_norms

SHORT = (torch.float32, torch.bfloat16, torch.float16)


def slowly(tensors: list[Tensor]) -> list[float]:
    return [math.sqrt(math.fsum(entry * entry for entry in tensor.double().flatten().tolist())) for tensor in tensors]


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.tuples(st.sampled_from(SHORT), st.integers(1, 40)), min_size=1, max_size=8),
    exponent=st.integers(-30, 30),
    others=st.integers(0, 3),
)
def test_norms_of_short_tensors_are_those_of_a_loop(
    kinds: list[tuple[torch.dtype, int]], exponent: int, others: int
) -> None:
    """Where the squares would leave the range of 32 bits, too."""
    generator = torch.Generator().manual_seed(len(kinds))
    tensors = [(torch.randn(n, generator=generator) * 10.0**exponent).to(dtype) for dtype, n in kinds]
    norms, numbers = read_norms(tensors, [torch.tensor(2.5, dtype=torch.float64)] * others)
    expected = [math.nan if not math.isfinite(norm) else norm for norm in slowly(tensors)]
    assert [math.nan if not math.isfinite(norm) else norm for norm in norms.tolist()] == pytest.approx(
        expected, rel=1e-12, abs=0, nan_ok=True
    )
    assert numbers.tolist() == [2.5] * others


def test_many_tensors_of_any_layout_have_their_own_norms() -> None:
    """They are copied some at a time; a transposed one has no entries in a row."""
    tensors = [torch.full((2, 3), float(i)).t() for i in range(1000)]
    norms, numbers = read_norms(tensors, [torch.tensor(7), torch.tensor(True)])
    assert norms.tolist() == pytest.approx([i * math.sqrt(6) for i in range(1000)])
    assert numbers.tolist() == [7.0, 1.0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_spoils_its_norm_alone(value: float) -> None:
    norms, _ = read_norms([torch.ones(4), torch.tensor([1.0, value]), torch.ones(9)])
    assert norms.tolist() == pytest.approx([2.0, abs(value), 3.0], nan_ok=True)


def test_the_tensors_are_left_as_they_are() -> None:
    weight = torch.tensor([3.0, 4.0], requires_grad=True)
    version = weight._version
    assert read_norms([weight])[0].tolist() == [5.0]
    assert (weight._version, weight.tolist()) == (version, [3.0, 4.0])


def test_what_waits_comes_along() -> None:
    copies = HostCopy()
    waiting = copies.later(torch.tensor([1.0, 2.0]))
    norms, numbers = copies.norms([torch.tensor([3.0, 4.0])], [torch.tensor(6.0)])
    assert (norms.tolist(), numbers.tolist()) == ([5.0], [6.0])
    assert waiting.is_read
    assert waiting.numbers == [1.0, 2.0]
