"""One answer of all ranks, asked for when an evaluation has ended or a checkpoint is written, never on the way."""

from __future__ import annotations

import time
from typing import Any, TypeVar

import torch

from lightning_debugkit.core.compat import Trainer, default_store
from lightning_debugkit.core.sharding import samples_of

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


def told_by_all(about: str, mine: str, rank: int, ranks: int, patience: float) -> list[str]:
    """Return, on the first rank, what each rank has told ``about`` something; the others tell and go on, with ``[]``.

    It goes through the store of the process group, not through a collective: so a rank that is gone can be named.

    Args:
        about: Names the question, another one each time.
        patience: Seconds that the first rank waits for all others together.

    Raises:
        TimeoutError: Ranks have told nothing.
    """
    store = default_store()
    keys = [f"lightning-debugkit/{about}/{each}" for each in range(ranks)]
    store.set(keys[rank], mine)
    if rank:
        return []
    # Asked again and again: a wait would keep the store from all other threads of this process.
    ends, pause = time.monotonic() + patience, 0.001
    missing = list(range(ranks))
    while missing := [each for each in missing if not store.check([keys[each]])]:
        if time.monotonic() > ends:
            break
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    if missing:
        named = f"rank {missing[0]} has" if len(missing) == 1 else f"ranks {', '.join(map(str, missing))} have"
        raise TimeoutError(f"{named} told nothing of {about} within {patience:g} s")
    found = [store.get(key).decode() for key in keys]
    for key in keys:
        store.delete_key(key)
    return found
