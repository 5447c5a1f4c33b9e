"""Rows gathered batch by batch come out as they went in."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_debugkit.stats.row_buffer import RowBuffer


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 30), max_size=12), rows=st.integers(1, 10))
def test_every_row_comes_out_once_and_in_order(sizes: list[int], rows: int) -> None:
    buffer, seen, first = RowBuffer([torch.int64, torch.float32], rows), [], 0
    for size in sizes:
        number = torch.arange(first, first + size)
        blocks = buffer.add(number, number / 2)
        seen += [(column.clone(), half.clone()) for column, half in blocks]
        first += size
    seen += [(column.clone(), half.clone()) for column, half in buffer.rest()]
    assert [row for block, _ in seen for row in block.tolist()] == list(range(first))
    assert all(torch.equal(half, block / 2) and len(block) <= rows for block, half in seen)
    assert list(buffer.rest()) == []


def test_a_batch_of_another_width_begins_anew() -> None:
    buffer = RowBuffer([torch.float32], rows=8)
    assert list(buffer.add(torch.zeros(2, 3))) == []
    assert [block.shape for (block,) in buffer.add(torch.zeros(2, 4))] == [(2, 3)]
    assert [block.shape for (block,) in buffer.rest()] == [(2, 4)]
