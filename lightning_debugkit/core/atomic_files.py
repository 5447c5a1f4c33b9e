"""Files that a reader, another process or a kill finds whole: written beside their place and renamed, and locked.

The system gives up a lock when its process ends or is killed: what nobody holds is left behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from types import ModuleType

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None

HAS_LOCKS = fcntl is not None
_LONG = 24 * 3600.0
_DRAFT = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


def write_whole(path: Path, save: Callable[[Path], object], *, fsync: bool = True, in_folder: bool = False) -> None:
    """Let ``save`` write a file beside ``path``, then put it in place in one step.

    The draft lies on the same filesystem as its target, so that putting it in place is a rename and never a copy.
    Readers see the old file or the new one. If anything fails the draft goes, and the old file is as it was.

    Args:
        path: Where the file is to be; its folder must exist.
        save: Writes to the path it is given.
        fsync: Wait until the device has the bytes. That it has the name, too, takes ``sync_folder``.
        in_folder: Give ``save`` a path in an empty folder, where it may make a folder, too. This costs more.
    """
    _write_whole(path, lambda draft, handle: save(draft), fsync=fsync, in_folder=in_folder)


def write_bytes(path: Path, data: bytes, *, fsync: bool = False) -> None:
    """Write a small file whole or not at all; its folder is made if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_whole(path, lambda draft, handle: _write(handle, data), fsync=fsync, in_folder=False)


def _write_whole(path: Path, save: Callable[[Path, int], object], *, fsync: bool, in_folder: bool) -> None:
    draft = draft_of(path)
    handle = _create(draft, in_folder)
    try:
        target = draft / path.name if in_folder else draft
        save(target, handle)
        if fsync:
            _sync(target, None if in_folder else handle)
        if not HAS_LOCKS:  # Windows renames nothing that is open
            os.close(handle)
            handle = -1
        _put_in_place(target, path)
    except BaseException:
        remove_durably(draft)
        raise
    finally:
        if handle >= 0:
            os.close(handle)
    if in_folder:
        remove_durably(draft)


def _write(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


def link_durably(path: Path, target: str) -> None:
    """Let ``path`` lead to ``target``, in one step; what ``path`` was before goes."""
    draft = draft_of(path)
    draft.symlink_to(target)
    try:
        draft.replace(path)
    except BaseException:
        remove_durably(draft)
        raise


def remove_durably(path: Path) -> None:
    """Delete a file, a link or a folder; none there is none to delete."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        if not _is_folder(path):
            raise
        shutil.rmtree(path, ignore_errors=True)


def discard(path: Path) -> None:
    """Delete a file or a folder; a folder loses its name first, so that a kill leaves no half of one under it."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        if not _is_folder(path):
            raise
        remove_durably(path.replace(draft_of(path)))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


@contextlib.contextmanager
def draft_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside ``path``, which goes with the context, or with the next fit if this one is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(path)
    handle = _create(draft, is_folder=True)
    try:
        yield draft
    finally:
        remove_durably(draft)
        if handle >= 0:
            os.close(handle)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process is in this context for ``folder``; where there are no locks, go on."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY) if HAS_LOCKS else -1
    try:
        if HAS_LOCKS:
            lock(handle, wait=True)
        yield
    finally:
        if handle >= 0:
            os.close(handle)


def sync_file(path: Path) -> None:
    """Wait until the device has the bytes of a file.

    Raises:
        OSError: It did not take them.
    """
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Wait until the device knows the names in ``folder``; some filesystems have no such call."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def draft_of(path: Path) -> Path:
    """Return a hidden name beside ``path`` that nobody has; `sweep_drafts` knows it by its form."""
    return path.with_name(f".{path.name}.{token_hex(4)}.tmp")


def _put_in_place(draft: Path, path: Path) -> None:
    """Rename; some network filesystems rename onto no file that is there, so that there is none for an instant."""
    try:
        draft.replace(path)
    except FileExistsError:
        path.unlink()
        draft.replace(path)


def _create(draft: Path, is_folder: bool) -> int:
    """Make an empty draft; return a handle that holds its lock where there are locks, -1 of a folder if there are none.

    The handle of a file is open for writing.
    """
    if is_folder:
        draft.mkdir()
        folder = locked(draft)
        return -1 if folder is None else folder
    handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0), 0o666)
    lock(handle)
    return handle


def _sync(draft: Path, handle: int | None) -> None:
    if handle is not None:
        os.fsync(handle)
        return
    files = [file for file in draft.rglob("*") if file.is_file()] if draft.is_dir() else [draft]
    for file in files:
        sync_file(file)
    for folder in {file.parent for file in files if draft.is_dir()}:
        sync_folder(folder)


def sweep_drafts(folder: Path) -> list[int]:
    """Remove the drafts of writers that no longer live, in ``folder``; return their sizes in bytes."""
    sizes = []
    for draft in folder.glob(".*.tmp"):
        if _DRAFT.fullmatch(draft.name) and (draft.is_symlink() or is_abandoned(draft)):
            sizes.append(0 if draft.is_symlink() else size_of(draft))
            remove_durably(draft)
    return sizes


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    held = path.stat()
    if not stat.S_ISDIR(held.st_mode):
        return held.st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


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


def share(handle: int) -> bool:
    """Take a share of the lock of an open folder; return whether nobody had one, as far as the filesystem tells."""
    if fcntl is None:
        return True
    is_alone = True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        is_alone = False
    except OSError:
        return True
    with contextlib.suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return is_alone


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


def origin_of(error: Exception) -> Exception:
    """Return what the system said, where torch has made a ``RuntimeError`` of it; else ``error`` itself."""
    beneath: BaseException | None = error if isinstance(error, RuntimeError) else None
    while beneath is not None:
        if isinstance(beneath, OSError):
            return beneath
        beneath = beneath.__cause__ or beneath.__context__
    return error


def is_full(error: Exception) -> bool:
    """Tell whether a disk or quota is full."""
    cause = origin_of(error)
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
