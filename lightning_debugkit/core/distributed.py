"""One answer of all ranks, asked for when an evaluation has ended, never on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import torch

from lightning_debugkit.core.sharding import samples_of

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

T = TypeVar("T")


def gathered_from_ranks(trainer: Trainer, mine: T) -> list[T]:
    """Return what every rank has, by rank; each must call this at the same place, with ``None`` if it has nothing.

    Of ranks that work on the same samples together, the first one's counts.
    """
    if trainer.world_size == 1 or not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [mine]
    found: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(found, (samples_of(trainer)[0], mine))
    shares: dict[int, T] = {}
    for share, theirs in found:
        shares.setdefault(share, theirs)
    return list(shares.values())
