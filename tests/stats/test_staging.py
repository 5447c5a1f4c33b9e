"""Rows gathered batch by batch come out as they went in."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_debugkit.stats.staging import Staging


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 30), max_size=12), rows=st.integers(1, 10))
def test_every_row_comes_out_once_and_in_order(sizes: list[int], rows: int) -> None:
    staging, seen, first = Staging([torch.int64, torch.float32], rows), [], 0
    for size in sizes:
        number = torch.arange(first, first + size)
        blocks = staging.add(number, number / 2)
        seen += [(column.clone(), half.clone()) for column, half in blocks]
        first += size
    seen += [(column.clone(), half.clone()) for column, half in staging.rest()]
    assert [row for block, _ in seen for row in block.tolist()] == list(range(first))
    assert all(torch.equal(half, block / 2) and len(block) <= rows for block, half in seen)
    assert list(staging.rest()) == []


def test_a_batch_of_another_width_begins_anew() -> None:
    staging = Staging([torch.float32], rows=8)
    assert list(staging.add(torch.zeros(2, 3))) == []
    assert [block.shape for (block,) in staging.add(torch.zeros(2, 4))] == [(2, 3)]
    assert [block.shape for (block,) in staging.rest()] == [(2, 4)]
