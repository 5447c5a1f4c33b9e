"""Rows of small batches gathered on their device, so that the work on them is done for many at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

Block: TypeAlias = tuple[Tensor, ...]

ROWS = 1 << 16


class RowBuffer:
    """Columns that fill up batch by batch, and are handed on whenever the next batch would not fit.

    A batch costs one copy a column and no wait for the device.

    Args:
        dtypes: Of each column; what is added is converted.
        rows: Held at most; larger batches are handed on in pieces of this size.

    >>> buffer = RowBuffer([torch.int64], rows=4)
    >>> [[block[0].tolist() for block in buffer.add(torch.tensor(x))] for x in ([1, 2, 3], [4, 5])]
    [[], [[1, 2, 3]]]
    >>> [block[0].tolist() for block in buffer.rest()]
    [[4, 5]]
    """

    def __init__(self, dtypes: Sequence[torch.dtype], rows: int = ROWS) -> None:
        self.dtypes = tuple(dtypes)
        self.rows = rows
        self._columns: Block = ()
        self._filled = 0

    def add(self, *columns: Tensor) -> Iterator[Block]:
        """Keep the rows, and yield blocks that are full; a block is valid until the next is asked for."""
        n = len(columns[0])
        alike = self._is_alike(columns)
        if self._filled + n > self.rows or not alike:
            yield from self.rest()
        if n > self.rows:
            for block in zip(*(column.detach().split(self.rows) for column in columns), strict=True):
                yield tuple(part.to(dtype) for part, dtype in zip(block, self.dtypes, strict=True))
            return
        if not alike:
            self._columns = tuple(
                torch.empty((self.rows, *column.shape[1:]), dtype=dtype, device=column.device)
                for column, dtype in zip(columns, self.dtypes, strict=True)
            )
        for kept, column in zip(self._columns, columns, strict=True):
            kept[self._filled : self._filled + n] = column.detach()
        self._filled += n

    def rest(self) -> Iterator[Block]:
        """Yield what was not handed on yet."""
        filled, self._filled = self._filled, 0
        if filled:
            yield tuple(column[:filled] for column in self._columns)

    def _is_alike(self, columns: Block) -> bool:
        """Tell whether the columns lie on the device of those before, and are as wide."""
        return bool(self._columns) and all(
            kept.device == column.device and kept.shape[1:] == column.shape[1:]
            for kept, column in zip(self._columns, columns, strict=True)
        )
