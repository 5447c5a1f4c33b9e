"""How often each class was taken for each other: exact counts that stream, of ten classes or of 100,000."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_debugkit.stats.arrays import Integers, Numbers, integers
from lightning_debugkit.stats.row_buffer import Block, RowBuffer

DENSE = 1_500  # classes up to which a whole matrix, 18 MB, is kept; only cells that occur are above
_CLASSES = 1 << 31  # a cell's target and prediction share 64 bits
_RUN = 1 << 17


class Confusion:
    """Counts of (target, prediction), on the device of the batches.

    Grows where a class beyond ``classes`` is met. A negative class, such as -1 for a label to ignore, is no class: its
    samples are left out and counted in ``outside``. Sums of integers do not depend on the order of the batches, and no
    operation used here is refused by ``torch.use_deterministic_algorithms``.

    >>> confusion = Confusion(2)
    >>> confusion.update(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]))
    >>> confusion.counts()
    [(0, 0, 1), (1, 0, 1), (1, 1, 1)]
    """

    def __init__(self, classes: int) -> None:
        if not 1 <= classes < _CLASSES:
            raise ValueError(f"Confusion needs classes >= 1, got {classes!r}; give the width of the model's output.")
        self._classes = classes
        self._outside = 0
        self._buffer = RowBuffer((torch.int64, torch.int64))
        self._table: Tensor | None = None
        self._runs: list[tuple[Tensor, Tensor]] = []  # codes that ascend, and their counts

    def update(self, target: Tensor, predicted: Tensor) -> None:
        """Count a batch.

        Shapes:
            target: (...) integers; predicted: the same.
        """
        if target.shape != predicted.shape or target.is_floating_point() or predicted.is_floating_point():
            raise ValueError(
                "Confusion needs whole numbers of one shape, got "
                f"{_kind(target)} targets and {_kind(predicted)} predictions; give the class of each."
            )
        for block in self._buffer.add(target.reshape(-1), predicted.reshape(-1).to(target.device)):
            self._count(block)

    def merge(self, other: Confusion) -> None:
        """Add the counts of another, such as of another rank."""
        self._classes = max(self.classes, other.classes)
        self._outside += other._outside
        self._add(*(torch.from_numpy(column) for column in other.cells()))

    @property
    def classes(self) -> int:
        self._settle()
        return self._classes

    @property
    def outside(self) -> int:
        """Samples left out because their target or prediction is no class."""
        self._settle()
        return self._outside

    def cells(self) -> tuple[Integers, Integers, Integers]:
        """Return targets, predictions and counts of the cells that occur, row by row."""
        self._settle()
        if self._table is not None:
            codes = self._table.nonzero().reshape(-1)
            counts, width = self._table[codes], self._width(self._table)
            return integers(codes // width), integers(codes % width), integers(counts)
        self._join()
        if not self._runs:
            return integers([]), integers([]), integers([])
        codes, counts = self._runs[0]
        return integers(codes >> 32), integers(codes & (_CLASSES - 1)), integers(counts)

    def counts(self) -> list[tuple[int, int, int]]:
        """Return (target, prediction, count) of the cells that occur, row by row."""
        return list(zip(*(column.tolist() for column in self.cells()), strict=True))

    def dense(self) -> Integers:
        """Return the whole matrix, row = target, column = prediction; 8 bytes times the classes squared."""
        rows, columns, counts = self.cells()
        table = np.zeros((self._classes, self._classes), dtype=np.int64)
        table[rows, columns] = counts
        return table

    @property
    def support(self) -> Integers:
        """(classes,) samples of each class."""
        rows, _, counts = self.cells()
        return self._sums(rows, counts)

    @property
    def predicted_count(self) -> Integers:
        """(classes,) samples predicted as each class."""
        _, columns, counts = self.cells()
        return self._sums(columns, counts)

    @property
    def hits(self) -> Integers:
        """(classes,) samples of each class that were predicted as such."""
        rows, columns, counts = self.cells()
        right = rows == columns
        return self._sums(rows[right], counts[right])

    @property
    def correct(self) -> int:
        return int(self.hits.sum())

    @property
    def total(self) -> int:
        return int(self.cells()[2].sum())

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint or another rank needs: ``of`` makes the same again."""
        return {"classes": self.classes, "outside": self.outside, "cells": torch.from_numpy(np.stack(self.cells()))}

    @classmethod
    def of(cls, state: dict[str, Any]) -> Confusion:
        found = cls(state["classes"])
        found._outside = state["outside"]
        found._add(*state["cells"])
        return found

    @classmethod
    def of_matrix(cls, matrix: Numbers) -> Confusion:
        """Return the counts of a square matrix, row = target, column = prediction."""
        table = integers(matrix)
        if table.ndim != 2 or table.shape[0] != table.shape[1] or (table < 0).any():
            raise ValueError(f"Confusion needs a square matrix of counts, got shape {table.shape}; row = target.")
        rows, columns = np.nonzero(table)
        cells = np.stack([rows, columns, table[rows, columns]])
        return cls.of({"classes": len(table), "outside": 0, "cells": torch.from_numpy(cells)})

    def _settle(self) -> None:
        for block in self._buffer.rest():
            self._count(block)

    def _count(self, block: Block) -> None:
        target, predicted = block
        if not target.numel():
            return
        ends = torch.stack([torch.minimum(target, predicted).amin(), torch.maximum(target, predicted).amax()])
        low, high = ends.tolist()
        if low < 0 or high >= _CLASSES:
            inside = (torch.minimum(target, predicted) >= 0) & (torch.maximum(target, predicted) < _CLASSES)
            self._outside += len(target) - int(inside.sum())
            self._count((target[inside], predicted[inside]))
            return
        self._classes = max(self._classes, high + 1)
        self._add(target, predicted, torch.ones_like(target))

    def _add(self, target: Tensor, predicted: Tensor, counts: Tensor) -> None:
        if self._classes > DENSE:
            self._add_sparse(target, predicted, counts)
            return
        table = self._wide_table(target.device)
        codes = target * self._width(table) + predicted
        table.index_add_(0, codes.to(table.device), counts.to(table.device))

    def _wide_table(self, device: torch.device) -> Tensor:
        """The flat matrix, wide enough for all classes."""
        if self._table is None:
            self._table = torch.zeros(self._classes**2, dtype=torch.int64, device=device)
        elif self._width(self._table) < self._classes:
            old, width = self._table, self._width(self._table)
            self._table = torch.zeros(self._classes**2, dtype=torch.int64, device=old.device)
            self._table.view(self._classes, self._classes)[:width, :width] = old.view(width, width)
        return self._table

    def _add_sparse(self, target: Tensor, predicted: Tensor, counts: Tensor) -> None:
        if self._table is not None:  # grown out of the matrix
            codes, width = self._table.nonzero().reshape(-1), self._width(self._table)
            old, self._table = self._table[codes], None
            self._runs.append((((codes // width) << 32) + codes % width, old))
        codes, where = torch.unique((target << 32) + predicted, return_inverse=True)
        self._runs.append((codes, torch.zeros_like(codes).index_add_(0, where, counts)))
        # Joined when the new ones are as many as the old: all joins together cost as one sort of all that was added.
        if sum(len(codes) for codes, _ in self._runs[1:]) > max(_RUN, len(self._runs[0][0])):
            self._join()

    def _join(self) -> None:
        if len(self._runs) < 2:
            return
        device = self._runs[0][0].device
        codes, where = torch.unique(torch.cat([codes.to(device) for codes, _ in self._runs]), return_inverse=True)
        counts = torch.cat([counts.to(device) for _, counts in self._runs])
        self._runs = [(codes, torch.zeros_like(codes).index_add_(0, where, counts))]

    @staticmethod
    def _width(table: Tensor) -> int:
        return math.isqrt(len(table))

    def _sums(self, classes: Integers, counts: Integers) -> Integers:
        # Exact: sums in double precision are, below 2^53.
        return np.bincount(classes, weights=counts, minlength=self._classes).astype(np.int64)


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
