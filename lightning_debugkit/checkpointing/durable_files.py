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
    draft = draft_of(path)
    handle = _create(draft, in_folder)
    try:
        target = draft / path.name if in_folder else draft
        save(target)
        if fsync:
            _sync(target)
        _put_in_place(target, path)
    except BaseException:
        remove_durably(draft)
        raise
    finally:
        if handle is not None:
            os.close(handle)
    if in_folder:
        remove_durably(draft)


def write_text(path: Path, text: str, *, fsync: bool = True) -> None:
    """Write a small text file whole or not at all."""
    write_whole(path, lambda draft: draft.write_text(text, encoding="utf-8"), fsync=fsync)


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
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def discard(path: Path) -> None:
    """Delete a file or a folder; a folder loses its name first, so that a kill leaves no half of one under it."""
    if path.is_dir() and not path.is_symlink():
        path = path.replace(draft_of(path))
    remove_durably(path)


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
        if handle is not None:
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


def _create(draft: Path, is_folder: bool) -> int | None:
    """Make an empty draft, and return a handle that holds its lock, ``None`` where there are no locks."""
    if is_folder:
        draft.mkdir()
    else:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return _lock(draft)


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


def sweep_drafts(folder: Path) -> list[int]:
    """Remove the drafts of writers that no longer live, in ``folder``; return their sizes in bytes."""
    sizes = []
    for draft in folder.glob(".*.tmp"):
        if _DRAFT.fullmatch(draft.name) and _is_abandoned(draft):
            sizes.append(0 if draft.is_symlink() else size_of(draft))
            remove_durably(draft)
    return sizes


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _is_abandoned(draft: Path) -> bool:
    """The system gives up the lock of a process that is killed; where there are no locks, only time tells."""
    if draft.is_symlink():
        return True
    try:
        handle = _lock(draft)
    except (BlockingIOError, FileNotFoundError):  # its writer lives, or has just finished
        return False
    if handle is None:
        return time.time() - draft.stat().st_mtime > _LONG
    os.close(handle)
    return True


def _lock(draft: Path) -> int | None:
    """Return a handle that holds the lock of ``draft``, ``None`` where there are no locks.

    Raises:
        BlockingIOError: Another process holds it.
    """
    if fcntl is None:
        return None
    handle = os.open(draft, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise
    except OSError:
        os.close(handle)
        return None
    return handle
