"""Which dataset entries a batch was made of, whatever sampler its loader has, and which rows count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler

from lightning_debugkit.core.compat import Trainer
from lightning_debugkit.core.tensor_numbers import shares_memory
from lightning_debugkit.data.batches import entry, tensors
from lightning_debugkit.data.loaders import loaders_given, own_sampler
from lightning_debugkit.data.sample_order import LoaderListener, keeps_order, ways_to


@dataclass(frozen=True)
class Rows:
    """Where the rows of a batch come from."""

    indices: Tensor | None  # dataset index of each row, `None` if it is not known
    counted: Tensor | None = None  # rows that are no repetitions for equal shares of the ranks, `None` if all count
    may_repeat: bool = False  # whether rows may be repetitions that cannot be told
    # whether the rows are in the order of the indices beyond doubt: a collate function of the user's own may sort them
    is_sure: bool = True

    def of(self, n: int) -> Rows:
        """Return the same if they are ``n`` rows; of others nothing is known."""
        known = [part for part in (self.indices, self.counted) if part is not None]
        return self if all(len(part) == n for part in known) else Rows(None, may_repeat=_is_shared())


class LoaderOrder(LoaderListener):
    """Record the dataset indices of batches, without touching data, loader workers or random numbers."""

    def __init__(self, training: bool = False) -> None:
        super().__init__(training)
        self._begun: dict[int, int] = {}

    def begin(self) -> None:
        """Take note that the loaders are read from their start."""
        self._begun = {}

    def rows(self, loader: Any) -> Rows:
        """Return where the rows of the next batch of a loader come from; ask once for each batch, in order."""
        given = self.heard(loader)
        if given is None or not given.given:
            return Rows(None, may_repeat=_is_shared())
        entries = given.given.popleft()
        first = self._begun.get(id(loader), 0)
        self._begun[id(loader)] = first + len(entries)
        try:
            indices = torch.tensor([int(entry) for entry in entries])
        except (TypeError, ValueError):  # keys that are no numbers
            indices = None
        counted, may_repeat = _counted(loader, given.inner, first, len(entries))
        return Rows(indices, counted, may_repeat, keeps_order(loader))


def answered_loader(
    trainer: Trainer, is_test: bool, batch: Any, target: Any, of_each: Sequence[Rows]
) -> tuple[int, Rows, Any, str]:
    """Return which of the loaders that are read at once answers are of, its rows and batch, and what is to be said.

    It is the one that their targets came with; where that is none or more than one, samples have no index.
    """
    parts = [entry(batch, way) for way, _ in ways_to(loaders_given(trainer, is_test))]
    mine = [at for at, part in enumerate(parts) if any(shares_memory(leaf, target) for leaf in tensors(part))]
    if len(mine) == 1:
        return mine[0], of_each[mine[0]], parts[mine[0]], ""
    note = "Several loaders are read at once, and of which one an answer is is not known: samples have no index."
    return 0, Rows(None, may_repeat=of_each[0].may_repeat), batch, note


def _counted(loader: DataLoader[Any], sampler: Any, first: int, rows: int) -> tuple[Tensor | None, bool]:
    """Return which rows count, and whether some may be repetitions nobody can tell.

    A distributed sampler appends what it repeats: it lies beyond the end of the data in the order of all ranks.
    """
    dealt = loader.sampler
    if not isinstance(dealt, DistributedSampler):
        return None, _is_shared()
    if dealt.drop_last:
        return None, False
    if not isinstance(own_sampler(sampler), BatchSampler):
        return None, True
    places = dealt.rank + dealt.num_replicas * (first + torch.arange(rows))
    length = len(dealt.dataset)  # type: ignore[arg-type]  # a distributed sampler needs it, too
    return (None if int(places[-1]) < length else places < length), False


def _is_shared() -> bool:
    """Tell whether ranks read the same loader, each a share that nobody knows."""
    world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    return world > 1
