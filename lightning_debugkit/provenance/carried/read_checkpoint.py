"""Read what a checkpoint says about its code: no class of it is looked up, no tensor is loaded."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from lightning_debugkit.core.plain_pickle import NotPlain, plain_data
from lightning_debugkit.provenance.carried.manifest import Malformed, Manifest, NoSnapshot, taken_from

# The file of a sharded checkpoint that holds what is no shard: of FSDP and ModelParallel, and of DeepSpeed.
_OF_FOLDERS = ("meta.pt", "checkpoint/mp_rank_00_model_states.pt")


def read_snapshot(checkpoint: str | Path) -> tuple[Manifest, bytes | None]:
    """Return manifest and source of a checkpoint, ``None`` for a source that was too large to travel with it.

    Safe with any file: nothing in it can run. One of an object store is read from a copy.

    Raises:
        NoSnapshot: The checkpoint carries none.
        Malformed: It is no checkpoint, or what it carries cannot be read.
        OSError: The file cannot be read.
        ValueError: The package of an object store is not installed.
    """
    if "://" not in str(checkpoint):
        return _read(Path(checkpoint), checkpoint)
    from lightning_debugkit.checkpointing.find_checkpoints import at_hand  # late: it needs torch

    with at_hand(checkpoint) as path:
        return _read(path, checkpoint)


def _read(path: Path, checkpoint: str | Path) -> tuple[Manifest, bytes | None]:
    if path.is_dir():
        found = [path / name for name in _OF_FOLDERS if (path / name).is_file()]
        if not found:
            raise NoSnapshot(f"{path} is a folder without {' or '.join(_OF_FOLDERS)}; name a checkpoint.")
        path = found[0]
    try:
        return taken_from(_plain(path))
    except NoSnapshot as error:
        raise NoSnapshot(f"{checkpoint}: {error}") from None
    except Malformed as error:
        raise Malformed(f"{checkpoint}: {error}") from None


def _plain(path: Path) -> Any:
    if not path.exists():  # is_zipfile says no, too
        raise FileNotFoundError(f"There is no checkpoint {str(path)!r}; check the path.")
    try:
        return plain_data(path) if zipfile.is_zipfile(path) else _of_old_format(path)
    except NotPlain as error:
        raise Malformed(str(error)) from error


def _of_old_format(path: Path) -> Any:
    import torch  # late: reading a usual checkpoint does without

    try:
        return torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:
        raise Malformed("it is no checkpoint that torch can load") from error
