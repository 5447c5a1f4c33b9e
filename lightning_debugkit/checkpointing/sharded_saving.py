"""Checkpoints that every rank writes a part of, as FSDP and model parallelism do: folders of shards.

Lightning and ``torch.distributed.checkpoint`` write the shards, into a draft, at once or beside the training. Each rank
then tells size and checksum of its own; only when all have told is the draft given its name and a record.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from torch import distributed
from torch.distributed import checkpoint
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.distributed.checkpoint.state_dict_saver import save as dcp_save

from lightning_debugkit.checkpointing.records import Shards
from lightning_debugkit.checkpointing.serialization import tensor_snapshot
from lightning_debugkit.checkpointing.verification import checksums
from lightning_debugkit.core.compat import FSDPStrategy, Trainer
from lightning_debugkit.core.distributed import told_by_all
from lightning_debugkit.core.patching import StandIn

PATIENCE = 600.0  # seconds that the first rank waits for checksums of the others: 500 GB are read in that time


class ShardNotWritten(RuntimeError):
    """A rank could not write its part."""


class ShardWriter:
    """Lets every rank write its part of checkpoints, at once or beside the training."""

    def __init__(self, *, beside: bool) -> None:
        # the training waits for a copy in host memory only; `torch.distributed.checkpoint` writes in a thread, whose
        # collectives have a process group of their own
        self._beside = beside
        self._group: Any = None
        self._pool = ThreadPoolExecutor(1, "shards")
        self._under_way: Future[Any] | None = None

    def write(
        self, trainer: Trainer, draft: Path, weights_only: bool, add: Callable[[dict[str, Any]], None]
    ) -> Callable[[], Shards]:
        """Write into ``draft``, or begin to; return what waits for all ranks and tells of their shards, on the first.

        Every rank must call this. Nothing is raised between two meetings of the ranks, where the others would wait for
        this one.

        Args:
            draft: The same folder on every rank.
            weights_only: Leave out what is needed to resume.
        """
        self.wait()
        begun: list[Future[Any]] = []
        with self._writing_beside(begun, is_fsdp=isinstance(trainer.strategy, FSDPStrategy)):
            error = _write(trainer, draft, weights_only, add)
        self._under_way = begun[0] if begun else None
        tell = partial(_told, trainer.global_rank, trainer.world_size, draft, self._under_way, error)
        if trainer.global_rank:
            self._under_way = self._pool.submit(tell)
            if not begun:
                self.wait()
        return tell

    def wait(self) -> None:
        """Wait for what this rank is writing, whatever comes of it."""
        if self._under_way is not None:
            wait([self._under_way])
            self._under_way = None

    @contextlib.contextmanager
    def _writing_beside(self, begun: list[Future[Any]], *, is_fsdp: bool) -> Iterator[None]:
        """Let Lightning's call of ``save`` return when the state is copied; ``begun`` gets what it has begun."""
        if not self._beside:
            yield
            return
        if self._group is None:
            self._group = distributed.new_group(backend="gloo", timeout=timedelta(seconds=PATIENCE))

        def save(state: Any, *, checkpoint_id: Any) -> None:
            if is_fsdp:  # async_save cannot copy its shards
                copied = tensor_snapshot(state)
                begun.append(
                    self._pool.submit(dcp_save, copied, checkpoint_id=checkpoint_id, process_group=self._group)
                )
                return
            under_way: Any = async_save(state, checkpoint_id=checkpoint_id, process_group=self._group)
            begun.append(getattr(under_way, "upload_completion", under_way))

        standing = StandIn(checkpoint, "save", save).stand()
        try:
            yield
        finally:
            standing.leave()


def _write(
    trainer: Trainer, draft: Path, weights_only: bool, add: Callable[[dict[str, Any]], None]
) -> Exception | None:
    """Let the Trainer make a checkpoint and the strategy write it into ``draft``; return what failed."""
    strategy = trainer.strategy
    usual = strategy.save_checkpoint
    failed: list[Exception] = []

    def save(state: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        try:
            add(state)
            usual(state, filepath, storage_options=storage_options)
        except CheckpointException as error:  # no Exception: every rank gets it, with what each has met
            failed.append(_met(error))
        except Exception as error:
            failed.append(error)

    standing = StandIn(strategy, "save_checkpoint", save).stand()
    try:
        trainer.save_checkpoint(draft, weights_only)
    except Exception as error:  # of a hook of the user's
        failed.append(error)
    finally:
        standing.leave()
    return failed[0] if failed else None


def _told(rank: int, ranks: int, draft: Path, under_way: Future[Any] | None, error: Exception | None) -> Shards:
    """Return, on the first rank, size and CRC-32 of all files in ``draft``; every rank must call this.

    Each reads what it has written itself.

    Raises:
        TimeoutError: A rank has told nothing; the message names it.
        ShardNotWritten: A rank could not write its part.
        Exception: This rank could not.
    """
    met = under_way.exception() if under_way is not None else None
    if met is not None:
        error = _met(met) if isinstance(met, CheckpointException) else ShardNotWritten(f"{type(met).__name__}: {met}")
    told = dict[str, Any]()
    try:
        told["shards"] = {} if error else checksums(draft, f"__{rank}_")
    except OSError as unreadable:
        error = unreadable
    told["error"] = f"{type(error).__name__}: {error}" if error else ""
    answers = told_by_all(f"the shards of {draft.name}", json.dumps(told), rank, ranks, PATIENCE)
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
