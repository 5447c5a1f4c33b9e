"""Write captured files out again: into a new or empty folder, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from lightning_debugkit.provenance.carried.archive import Archive, RefusedArchive, name_fault

_SPARE = 20_000_000  # bytes that a disk keeps free


def restore_files(archive: Archive, to: Path) -> list[Path]:
    """Write the files of ``archive`` below ``to``; return where they lie.

    Raises:
        Refused: ``to`` holds something, or the disk has too little room.
        OSError: It cannot be written; nothing is left then.
    """
    target = Path(to).absolute()
    if target.is_symlink():
        target = target.resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RefusedArchive(f"{to} is not empty; name a folder that does not exist yet")
    faulty = [path for path in archive if name_fault(path)]
    if faulty:
        raise RefusedArchive(f"{faulty[0]!r} may not be written: {name_fault(faulty[0])}")
    missing = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.parent / f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}.part"
    try:
        total = sum(len(archive[path]) for path in archive)
        if shutil.disk_usage(target.parent).free < total + _SPARE:
            raise RefusedArchive(f"{target.parent} has less than {total + _SPARE:,} bytes free")
        draft.mkdir()
        for path in archive:
            _write(draft / path, archive[path])
        put(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    return [target / path for path in sorted(archive)]


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:  # x: never over what is there
        file.write(data)


def put(draft: Path, target: Path) -> None:
    """Move the folder ``draft`` to where ``target`` is, or will be; an empty folder there may stay."""
    try:
        if target.exists():
            target.rmdir()
        draft.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        # A folder that cannot be replaced: a mount, or where a process stands.
        for entry in draft.iterdir():
            entry.rename(target / entry.name)
        draft.rmdir()
