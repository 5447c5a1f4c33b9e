"""Files that several processes meet in: replaced whole, and locked.

The system gives up a lock when its process ends or is killed: what nobody holds is left behind.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import ModuleType

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None

HAS_LOCKS = fcntl is not None
_LONG = 24 * 3600.0


def lock(handle: int, wait: bool = False) -> bool:
    """Take the lock of an open file or folder; return whether it is held: some filesystems have no locks.

    Args:
        handle: Holds the lock until it is closed.
        wait: Wait for another process that holds it.

    Raises:
        BlockingIOError: Another process holds it.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def locked(path: Path) -> int | None:
    """Return a handle that holds the lock of ``path``, ``None`` where there are no locks.

    Raises:
        BlockingIOError: Another process holds it.
    """
    if fcntl is None:
        return None
    handle = os.open(path, os.O_RDONLY)
    try:
        if lock(handle):
            return handle
    except BlockingIOError:
        os.close(handle)
        raise
    os.close(handle)
    return None


def is_abandoned(path: Path) -> bool:
    """Tell whether no process holds the lock of ``path``; where there are no locks, only its age tells."""
    try:
        handle = locked(path)
    except (BlockingIOError, FileNotFoundError):  # its owner lives, or has just finished
        return False
    if handle is None:
        return is_old(path)
    os.close(handle)
    return True


def is_old(path: Path) -> bool:
    """Tell whether ``path`` was last written so long ago that its writer hardly lives."""
    return time.time() - path.lstat().st_mtime > _LONG


def replace_file(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, by way of a draft beside it that leaves nothing where it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
