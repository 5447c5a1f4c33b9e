"""Checkpoints that every rank writes a part of, as FSDP and model parallelism do: folders of shards.

Lightning and ``torch.distributed.checkpoint`` write the shards, into a draft. Each rank then tells size and checksum of
its own; only when all have told is the draft given its name and a record.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.distributed.checkpoint.api import CheckpointException

from lightning_debugkit.checkpointing.records import Shards
from lightning_debugkit.checkpointing.verification import checksums
from lightning_debugkit.core.distributed import told_by_all
from lightning_debugkit.core.patching import StandIn

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

PATIENCE = 600.0  # seconds that the first rank waits for checksums of the others: 500 GB are read in that time


class ShardNotWritten(RuntimeError):
    """A rank could not write its part."""


def write_shards(
    trainer: Trainer, draft: Path, weights_only: bool, add: Callable[[dict[str, Any]], None]
) -> Exception | None:
    """Let every rank write its part of a checkpoint into ``draft``; return what failed.

    Nothing is raised between two meetings of the ranks, where the others would wait for this one.

    Args:
        trainer: Makes the checkpoint.
        draft: The same folder on every rank.
        weights_only: Leave out what is needed to resume.
        add: May put something into the checkpoint, before it is written.
    """
    strategy = trainer.strategy
    usual = strategy.save_checkpoint
    failed: list[Exception] = []

    def save(checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        try:
            add(checkpoint)
            usual(checkpoint, filepath, storage_options=storage_options)
        except CheckpointException as error:  # no Exception: every rank gets it, with what each has met
            failed.append(_met(error))
        except Exception as error:
            failed.append(error)

    standing = StandIn(strategy, "save_checkpoint", save)
    standing.stand()
    try:
        trainer.save_checkpoint(draft, weights_only)
    except Exception as error:  # of a hook of the user's
        failed.append(error)
    finally:
        standing.leave()
    return failed[0] if failed else None


def shards_of_all(trainer: Trainer, draft: Path, error: Exception | None, patience: float = PATIENCE) -> Shards:
    """Return, on the first rank, size and CRC-32 of all files in ``draft``; every rank must call this.

    Each reads what it has written itself.

    Raises:
        TimeoutError: A rank has told nothing; the message names it.
        ShardNotWritten: A rank could not write its part.
        Exception: This rank could not.
    """
    rank, told = trainer.global_rank, dict[str, Any]()
    try:
        told["shards"] = {} if error else checksums(draft, f"__{rank}_")
    except OSError as unreadable:
        error = unreadable
    told["error"] = f"{type(error).__name__}: {error}" if error else ""
    answers = told_by_all(f"the shards of {draft.name}", json.dumps(told), rank, trainer.world_size, patience)
    if error is not None:
        raise error
    return _whole(draft, map(json.loads, answers)) if rank == 0 else {}


def _whole(draft: Path, answers: Iterable[dict[str, Any]]) -> Shards:
    shards: dict[str, tuple[int, str]] = {}
    for rank, answer in enumerate(answers):
        if answer["error"]:
            raise ShardNotWritten(f"rank {rank}: {answer['error']}")
        shards.update({name: (size, crc) for name, (size, crc) in answer["shards"].items()})
    ours = [path.name for path in draft.iterdir() if path.name not in shards]
    for name in ours:  # what the first rank writes for all: .metadata and meta.pt
        shards.update({each: shard for each, shard in checksums(draft, name).items() if each == name})
    return dict(sorted(shards.items()))


def _met(error: CheckpointException) -> Exception:
    for rank, (met, _) in sorted(error.failures.items()):
        if isinstance(met, OSError):
            return type(met)(met.errno, f"rank {rank}: {met.strerror}") if met.errno else met
        return ShardNotWritten(f"rank {rank}: {type(met).__name__}: {met}")
    return ShardNotWritten(str(error))
