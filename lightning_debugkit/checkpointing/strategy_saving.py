"""The way of a checkpoint through Trainer and strategy to a writer of ours, and where it goes."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_debugkit.checkpointing import find_checkpoints, serialization
from lightning_debugkit.checkpointing.atomic_io import AtomicCheckpointIO, verify
from lightning_debugkit.checkpointing.hybrid_states import read_states_again
from lightning_debugkit.checkpointing.keeper import Write
from lightning_debugkit.checkpointing.object_store import is_url, local_path
from lightning_debugkit.core.callback import RefusedSetup
from lightning_debugkit.core.compat import (
    AsyncCheckpointIO,
    CheckpointIO,
    FSDPStrategy,
    ModelParallelStrategy,
    Strategy,
    TorchCheckpointIO,
    Trainer,
    is_of_other,
)

_IN_SHARDS = (FSDPStrategy.save_checkpoint, ModelParallelStrategy.save_checkpoint)
Take = Callable[[dict[str, Any], CheckpointIO], None]


class _Taking(CheckpointIO):
    """Hands a checkpoint on instead of writing it."""

    def __init__(self, take: Take, usual: CheckpointIO) -> None:
        self._take = take
        self._usual = usual

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        self._take(checkpoint, self._usual)

    def load_checkpoint(self, path: Any, map_location: Any = None, *args: Any, **options: Any) -> dict[str, Any]:
        return self._usual.load_checkpoint(path, map_location, *args, **options)

    def remove_checkpoint(self, path: Any) -> None:
        self._usual.remove_checkpoint(path)


def dump(trainer: Trainer, path: Path, weights_only: bool, take: Take) -> None:
    """Let the Trainer make a checkpoint, on every rank, and hand it to ``take`` on the first."""
    strategy = trainer.strategy
    usual = strategy.checkpoint_io
    strategy.checkpoint_io = _Taking(take, usual)
    try:
        trainer.save_checkpoint(path, weights_only)
    finally:
        strategy.checkpoint_io = usual


def writer(checkpoint: dict[str, Any], usual: CheckpointIO) -> tuple[Write, bool]:
    """Return what writes ``checkpoint`` to a path, ours or the user's own, and whether it may write a folder."""
    if type(usual) in (TorchCheckpointIO, AtomicCheckpointIO):
        return lambda path: serialization.save_bytes(checkpoint, path), False
    return lambda path: usual.save_checkpoint(checkpoint, path), True


class _Verified:
    """Stands before the ``load_checkpoint`` of a strategy that reads by itself: what it loads is verified first.

    One of an object store is brought here by the first rank; such a strategy knows no URLs.
    """

    def __init__(self, load: Callable[..., Any], trainer: Trainer) -> None:
        self.load = load
        self._trainer = trainer

    def __call__(self, checkpoint_path: Any, *args: Any, **options: Any) -> Any:
        if is_url(checkpoint_path):
            return self._from_store(str(checkpoint_path), *args, **options)
        local = local_path(checkpoint_path)
        if local is not None:
            verify(local)
        return self._read(checkpoint_path, *args, **options)

    def _read(self, path: Any, *args: Any, **options: Any) -> Any:
        loaded = self.load(path, *args, **options)
        read_states_again(self._trainer, path)
        return loaded

    def _from_store(self, url: str, *args: Any, **options: Any) -> Any:
        strategy, path, failed = self._trainer.strategy, url, None
        spool = Path(folder_of(self._trainer, url.rpartition("/")[0]))
        if self._trainer.is_global_zero:
            try:
                path = str(find_checkpoints.brought_by_url(url, spool / find_checkpoints.FETCHED) or url)
            except Exception as error:  # the others wait to be told
                failed = error
        path, failed = strategy.broadcast((path, failed))
        if failed is not None:
            raise failed
        loaded = self._read(path, *args, **options)
        strategy.barrier("NestedCheckpoint.load")
        if self._trainer.is_global_zero:
            find_checkpoints.forget_fetched(spool)
        return loaded


def reads_states_again(trainer: Trainer) -> bool:
    """Tell whether the states of optimizers that Lightning reads wrongly are read again behind it."""
    return isinstance(vars(trainer.strategy).get("load_checkpoint"), _Verified)


def install_io(trainer: Trainer, fsync: bool) -> AtomicCheckpointIO | None:
    """Let what the Trainer loads be verified, and what it saves be whole, unless the user chose another way."""
    strategy = trainer.strategy
    if type(strategy).save_checkpoint in _IN_SHARDS and not isinstance(
        vars(strategy).get("load_checkpoint"), _Verified
    ):
        strategy.load_checkpoint = _Verified(strategy.load_checkpoint, trainer)  # type: ignore[method-assign]  # of this one
    if type(strategy.checkpoint_io) is not TorchCheckpointIO:
        return None
    installed = AtomicCheckpointIO(fsync=fsync)
    strategy.checkpoint_io = installed
    return installed


def remove_io(trainer: Trainer, installed: AtomicCheckpointIO | None) -> None:
    """Give the Trainer back the way it had."""
    strategy = trainer.strategy
    if isinstance(standing := vars(strategy).get("load_checkpoint"), _Verified):
        del strategy.load_checkpoint
        if getattr(standing.load, "__self__", None) is not strategy:
            strategy.load_checkpoint = standing.load  # type: ignore[method-assign]  # someone else's
    if installed is not None and strategy.checkpoint_io is installed:
        strategy.checkpoint_io = TorchCheckpointIO()


def refuse_what_cannot_be(trainer: Trainer) -> None:
    """Raise where a file could not be committed as promised.

    Raises:
        Refused: The strategy or the ``CheckpointIO`` writes in a way of its own.
    """
    strategy = trainer.strategy
    if is_of_other(trainer):
        raise RefusedSetup(
            "NestedCheckpoint needs a Trainer of lightning.pytorch, got one of pytorch_lightning; "
            "write `import lightning.pytorch as pl`."
        )
    if type(strategy).save_checkpoint not in (Strategy.save_checkpoint, *_IN_SHARDS):
        raise RefusedSetup(
            "NestedCheckpoint needs a strategy whose checkpoint the first rank writes, such as DDP, or all ranks in "
            f"shards, as FSDP and ModelParallelStrategy do, got {type(strategy).__name__}; use ModelCheckpoint with it."
        )
    if isinstance(strategy.checkpoint_io, AsyncCheckpointIO):
        raise RefusedSetup(
            "NestedCheckpoint needs a CheckpointIO that has written when it returns, got AsyncCheckpointIO; "
            "use NestedCheckpoint(async_save=True) without it."
        )


def saves_in_shards(trainer: Trainer) -> bool:
    """Tell whether a checkpoint is a folder that every rank writes a part of."""
    strategy: Any = trainer.strategy
    if type(strategy).save_checkpoint not in _IN_SHARDS:
        return False
    return getattr(strategy, "_state_dict_type", "") == "sharded" or bool(
        getattr(strategy, "_save_distributed_checkpoint", False)
    )


def folder_of(trainer: Trainer | None, given: str | Path | None) -> str:
    """Return the folder for checkpoints, as ``ModelCheckpoint`` chooses it: given, of the logger, of the Trainer.

    Files for an object store are written to a folder below the Trainer's first, the same for each fit with that URL.
    """
    if is_url(given):
        root = local_path(trainer.default_root_dir) if trainer is not None else None
        spool = hashlib.sha256(str(given).rstrip("/").encode()).hexdigest()[:12]
        return str((root or Path(tempfile.gettempdir())).absolute() / "debugkit-spool" / spool)
    if given is not None:
        return str((local_path(given) or Path(given)).expanduser().resolve())
    assert trainer is not None, "only a folder that was given is known before there is a Trainer"
    loggers = trainer.loggers
    if not loggers:
        return str(Path(trainer.default_root_dir).absolute() / "checkpoints")
    base = loggers[0].save_dir or trainer.default_root_dir
    version = loggers[0].version
    version = version if isinstance(version, str) else f"version_{version}"
    return str(Path(base).absolute() / str(loggers[0].name) / version / "checkpoints")
