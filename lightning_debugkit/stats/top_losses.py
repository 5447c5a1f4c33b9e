"""The samples of largest loss, of however many there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_debugkit.stats.row_buffer import Block, RowBuffer

_ROWS = 1 << 13
_DTYPES = (torch.float32, torch.float32, torch.float32, torch.int64, torch.int64, torch.int64)


@dataclass(frozen=True)
class TopLoss:
    """One sample."""

    loss: float  # of it alone
    target: int  # its class
    predicted: int  # the class it is taken for
    index: int  # its place in the dataset, -1 if unknown
    probability: float  # of its target, by the model; nan if unknown
    confidence: float  # probability of the class it is taken for; nan if unknown


class TopLosses:
    """The ``k`` samples of largest loss; of equal ones the lower index.

    Losses that are not a number have no rank: they are counted in ``broken``. Infinity has, it is the largest.

    >>> top = TopLosses(1)
    >>> target, predicted, index = torch.tensor([[3, 3], [3, 5], [0, 1]])
    >>> top.update(torch.tensor([0.1, 4.0]), target, predicted, index)
    >>> [(sample.loss, sample.predicted, sample.index) for sample in top.sorted()]
    [(4.0, 5, 1)]
    """

    def __init__(self, k: int) -> None:
        if k < 1:
            raise ValueError(f"TopLosses needs k >= 1, got {k!r}; 25 make a page of pictures.")
        self.k = k  # samples kept
        self._broken = 0
        self._buffer = RowBuffer(_DTYPES, max(_ROWS, k))
        self._kept: Block = ()

    def update(
        self,
        loss: Tensor,
        target: Tensor,
        predicted: Tensor,
        index: Tensor,
        probability: Tensor | None = None,
        confidence: Tensor | None = None,
    ) -> None:
        """Look at a batch; every argument has one number a sample."""
        n = len(loss)
        if any(len(column) != n for column in (target, predicted, index)):
            raise ValueError(f"TopLosses needs one target, prediction and index a loss, got {n!r} losses and others.")
        unknown = loss.new_full((1,), torch.nan).expand(n)
        columns = (
            loss,
            unknown if probability is None else probability,
            unknown if confidence is None else confidence,
            target,
            predicted,
            index,
        )
        for block in self._buffer.add(*(column.to(loss.device) for column in columns)):
            self._look(block)

    def merge(self, other: TopLosses) -> None:
        """Take in the samples of another, such as of another rank."""
        self._settle()
        other._settle()
        self._broken += other._broken
        if other._kept:
            self._look(other._kept)

    def sorted(self) -> list[TopLoss]:
        """Return the samples, the largest loss first."""
        self._settle()
        columns = [column.tolist() for column in self._kept]
        return [
            TopLoss(loss, target, predicted, index, probability, confidence)
            for loss, probability, confidence, target, predicted, index in zip(*columns, strict=True)
        ]

    def nameless(self) -> TopLosses:
        """Return the same samples, their places in the dataset unknown."""
        held = self.state()
        *others, index = held["columns"] or [None]
        return TopLosses.of({**held, "columns": [*others, torch.full_like(index, -1)] if others else []})

    @property
    def broken(self) -> int:
        """Samples whose loss is not a number."""
        self._settle()
        return self._broken

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint or another rank needs: ``of`` makes the same again."""
        self._settle()
        return {"k": self.k, "broken": self._broken, "columns": [column.cpu() for column in self._kept]}

    @classmethod
    def of(cls, state: dict[str, Any]) -> TopLosses:
        found = cls(state["k"])
        found._broken = state["broken"]
        found._kept = tuple(state["columns"])
        return found

    def _settle(self) -> None:
        for block in self._buffer.rest():
            self._look(block)

    def _look(self, block: Block) -> None:
        if self._kept:
            block = tuple(torch.cat([kept, new.to(kept.device)]) for kept, new in zip(self._kept, block, strict=True))
        unranked = block[0].isnan()
        self._broken += int(unranked.sum())
        # The index is sorted first: the sort by loss is stable, so that it decides among equal ones.
        order = block[5].argsort(stable=True)
        order = order[~unranked[order]]
        order = order[block[0][order].argsort(descending=True, stable=True)][: self.k]
        self._kept = tuple(column[order] for column in block)
