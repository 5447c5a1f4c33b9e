"""Whether samples are where their indices say: a collate function may sort them, or leave some out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from lightning_debugkit.data.batches import leaves, take
from lightning_debugkit.data.drawing import drawing
from lightning_debugkit.data.loaders import length_of_loader
from lightning_debugkit.data.sample_identity import Leaves, are_alike, tells_orders_apart

_ROWS = 32  # of each loader
_OF_A_BATCH = 8


@dataclass(frozen=True)
class _Part:
    """Some rows of a batch as they were, each collated alone."""

    loader: int
    is_own: bool
    indices: list[int]
    rows: Sequence[Leaves]


@dataclass(frozen=True)
class IndexVerdict:
    """What came of the comparison."""

    unnamed: str = ""  # why recorded indices are none of the samples', empty if they are
    # why indices that the batches gave themselves are no places in the data set, empty if they may be
    undrawn: str = ""


class IndexEvidence:
    """Rows of the first batches of each loader, to be compared with the data set in the end.

    Not before: a data set that opens its files when it is first read must not have been read when workers are made.
    """

    def __init__(self) -> None:
        self._parts: list[_Part] = []

    @property
    def is_pending(self) -> bool:
        """Whether names hang on a comparison."""
        return any(not part.is_own for part in self._parts)

    def keep(self, loader: int, indices: Tensor, batch: Any, is_own: bool = False) -> None:
        """Keep some rows of a batch.

        Args:
            loader: Number of the loader.
            indices: Where the rows are said to be in the data of all loaders.
            batch: Its rows.
            is_own: Whether the batch said so itself; else it is the order in which they were asked for.
        """
        size = len(indices)
        kept = sum(len(part.rows) for part in self._parts if part.loader == loader)
        if kept >= _ROWS:
            return
        chosen = list(range(0, size, max(size // _OF_A_BATCH, 1)))[:_OF_A_BATCH]
        rows = [dict(leaves(take(batch, size, [row]))) for row in chosen]
        met = Counter(id(leaf) for row in rows for leaf in row.values() if isinstance(leaf, Tensor))
        shared = {leaf for leaf, times in met.items() if times > 1}
        rows = [{path: _copy(leaf) for path, leaf in row.items() if id(leaf) not in shared} for row in rows]
        self._parts.append(_Part(loader, is_own, indices[torch.tensor(chosen)].tolist(), rows))

    def judge(self, loaders: Sequence[Any]) -> IndexVerdict:
        """Draw the samples again, without a trace in random numbers, and compare."""
        unnamed = undrawn = ""
        for at in sorted({part.loader for part in self._parts}):
            parts = [part for part in self._parts if part.loader == at]
            try:
                is_there, is_sure = _compared(parts, loaders)
            except Exception as error:  # a data set that is gone, a collate function that cannot do with one sample
                is_there = is_sure = False
                told = f": they could not be drawn again ({type(error).__name__}: {error})"
            else:
                told = "" if is_sure else ": drawn again, they are others"
            if parts[0].is_own and not is_there:
                undrawn = "The index in the batch is no place in the data set: samples are not drawn."
            elif not parts[0].is_own and not (is_there and is_sure):
                name = getattr(getattr(loaders[at], "collate_fn", None), "__name__", "collate_fn")
                unnamed = f"Whether {name}() keeps the samples in their order is not known{told}."
        return IndexVerdict(unnamed, undrawn)


def sample_at(datasets: Sequence[Any], index: int) -> Any:
    """Return a sample of data sets that are counted through, one after another; ``None`` if there is none."""
    for dataset in datasets:
        n = length_of_loader(dataset)
        if index < n:
            return None if isinstance(dataset, IterableDataset) else dataset[index]
        index -= n
    return None


def _compared(parts: Sequence[_Part], loaders: Sequence[Any]) -> tuple[bool, bool]:
    """Return whether something of every row is as in the data set, and whether no other order looks like that."""
    datasets = [getattr(loader, "dataset", None) for loader in loaders]
    collate = loaders[parts[0].loader].collate_fn
    with drawing(datasets):
        drawn = [[_drawn(datasets, collate, index) for index in part.indices] for part in parts]
    pairs = [pair for part, again in zip(parts, drawn, strict=True) for pair in zip(part.rows, again, strict=True)]
    alike = [path for path in pairs[0][0] if all(are_alike(path, kept, again) for kept, again in pairs)]
    return bool(alike), any(tells_orders_apart(path, [part.rows for part in parts], drawn) for path in alike)


def _drawn(datasets: Sequence[Any], collate: Callable[[list[Any]], Any], index: int) -> Leaves:
    return dict(leaves(collate([sample_at(datasets, index)])))


def _copy(leaf: Any) -> Any:
    return leaf.detach().to("cpu", copy=True) if isinstance(leaf, Tensor) else leaf
