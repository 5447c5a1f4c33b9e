"""Write a file or a folder whole or not at all, and find what killed writers left behind."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from types import ModuleType

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows has none: what is left there is judged by its age
    fcntl = None

_DRAFT = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
_LONG = 24 * 3600.0


def write_whole(path: Path, save: Callable[[Path], object], *, fsync: bool = True) -> None:
    """Let ``save`` write a file or folder beside ``path``, then put it in place in one step.

    The draft lies on the same filesystem as its target, so that putting it in place is a rename and never a copy.
    Readers see the old file or the new one. If anything fails the draft goes, and the old file is as it was.

    Args:
        path: Where the file is to be; its folder must exist. A folder must not exist there yet.
        save: Writes to the path it is given.
        fsync: Wait until the device has the bytes. That it has the name, too, takes ``sync_folder``.
    """
    with _draft_folder(path) as folder:
        draft = folder / path.name
        save(draft)
        if fsync:
            _sync(draft)
        draft.replace(path)


def write_text(path: Path, text: str, *, fsync: bool = True) -> None:
    """Write a small text file whole or not at all."""
    write_whole(path, lambda draft: draft.write_text(text, encoding="utf-8"), fsync=fsync)


@contextlib.contextmanager
def _draft_folder(path: Path) -> Iterator[Path]:
    """Make a hidden folder beside ``path``, locked as long as this process lives and needs it."""
    folder = path.with_name(f".{path.name}.{token_hex(4)}.tmp")
    folder.mkdir()
    handle = None
    try:
        handle = _lock(folder)
        yield folder
    finally:
        if handle is not None:
            os.close(handle)
        shutil.rmtree(folder, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Wait until the device knows the names in ``folder``; some filesystems have no such call."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _sync(draft: Path) -> None:
    files = [file for file in draft.rglob("*") if file.is_file()] if draft.is_dir() else [draft]
    for file in files:
        handle = os.open(file, os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    for folder in {file.parent for file in files if draft.is_dir()}:
        sync_folder(folder)


def sweep(folder: Path) -> list[int]:
    """Remove the drafts of writers that no longer live, in ``folder``; return their sizes in bytes."""
    sizes = []
    for draft in folder.glob(".*.tmp"):
        if _DRAFT.fullmatch(draft.name) and draft.is_dir() and _is_abandoned(draft):
            sizes.append(size_of(draft))
            shutil.rmtree(draft, ignore_errors=True)
    return sizes


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _is_abandoned(draft: Path) -> bool:
    """The system gives up the lock of a process that is killed; where there are no locks, only time tells."""
    try:
        handle = _lock(draft)
    except BlockingIOError:
        return False
    except FileNotFoundError:  # its writer has just finished
        return False
    if handle is None:
        return time.time() - draft.stat().st_mtime > _LONG
    os.close(handle)
    return True


def _lock(folder: Path) -> int | None:
    """Return a handle that holds the lock of ``folder``, ``None`` where there are no locks.

    Raises:
        BlockingIOError: Another process holds it.
    """
    if fcntl is None:
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise
    except OSError:
        os.close(handle)
        return None
    return handle
