"""Write every checkpoint whole or not at all, and read none whose bytes have changed."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning_debugkit.checkpointing import serialization
from lightning_debugkit.checkpointing.find_checkpoints import brought_by_url
from lightning_debugkit.checkpointing.object_store import local_path
from lightning_debugkit.checkpointing.records import DAMAGED, SUFFIX, Record
from lightning_debugkit.checkpointing.verification import DamagedCheckpoint, damage
from lightning_debugkit.core.arguments import Needs
from lightning_debugkit.core.atomic_files import sweep_drafts, sync_folder, write_whole
from lightning_debugkit.core.compat import TorchCheckpointIO


class AtomicCheckpointIO(TorchCheckpointIO):
    """Make any checkpoint callback's files whole: ``Trainer(plugins=AtomicCheckpointIO())``.

    A file is streamed to a draft in its own folder, put on the device, and renamed. Lightning's own way goes through
    the folder for temporary files: a copy where that lies on another disk, which a kill leaves half done under the
    final name. A folder that cannot be written raises here; there it is passed over.

    What is loaded is verified first, by the CRC-32s that ``torch.save`` has put into the file: ``torch.load`` takes
    flipped bits for weights. Files for object stores (``s3://`` and the like) are written in Lightning's way; those
    that `NestedCheckpoint` has put there are verified, too.

    Args:
        fsync: Wait until the device has the file: then it outlives a loss of power.
        verify: Read a file once more before it is loaded.
    """

    def __init__(self, fsync: bool = True, verify: bool = True) -> None:
        for name, switch in (("fsync", fsync), ("verify", verify)):
            Needs("AtomicCheckpointIO").switch(name, switch, "True is usual")
        self.fsync = fsync
        self.verify = verify
        self._swept: set[Path] = set()

    def __repr__(self) -> str:
        return f"AtomicCheckpointIO(fsync={self.fsync!r}, verify={self.verify!r})"

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write ``checkpoint`` to ``path``, whole or not at all.

        Raises:
            OSError: It could not be written; a file that was there is as it was.
        """
        local = local_path(path)
        if local is None or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        local.parent.mkdir(parents=True, exist_ok=True)
        if local.parent not in self._swept:
            self._swept.add(local.parent)
            sweep_drafts(local.parent)
        write_whole(local, lambda draft: serialization.save_bytes(checkpoint, draft), fsync=self.fsync)
        if self.fsync:
            sync_folder(local.parent)

    def load_checkpoint(self, path: Any, *args: Any, **options: Any) -> dict[str, Any]:
        """Return the checkpoint at ``path``.

        Raises:
            DamagedCheckpoint: Its bytes are not those that were written.
        """
        local = local_path(path)
        if self.verify and local is not None:
            verify(local)
        if self.verify and local is None:
            with verified_copy(str(path)) as copy:
                return super().load_checkpoint(copy or path, *args, **options)
        return super().load_checkpoint(path, *args, **options)


@contextlib.contextmanager
def verified_copy(url: str) -> Iterator[Path | None]:
    """Give a copy of a file of an object store that is as its record says; None where it has no record.

    Raises:
        DamagedCheckpoint: Its bytes are not those that were written.
    """
    with tempfile.TemporaryDirectory(prefix="lightning-debugkit-") as folder:
        yield brought_by_url(url, Path(folder))


def verify(path: Path) -> None:
    """Read a checkpoint, by itself and by its record if it has one.

    Raises:
        DamagedCheckpoint: Its bytes are not those that were written.
    """
    if not path.exists() and _aside(path).exists():
        raise DamagedCheckpoint(f"{path} was damaged and is now called {_aside(path).name}; load another one.")
    found = damage(path, _record_of(path)) if path.exists() else ""
    if found:
        raise DamagedCheckpoint(f"{path} is damaged: {found}; load another one.")


def _aside(path: Path) -> Path:
    return path.with_name(path.name + DAMAGED)


def _record_of(path: Path) -> Record | None:
    """Return what is known of a file beside itself; a copy that was taken away from its record has none."""
    real = path.resolve()
    try:
        record = Record.from_json(real.with_name(real.name + SUFFIX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if record.name == real.name else None
