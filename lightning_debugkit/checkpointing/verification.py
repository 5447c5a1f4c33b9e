"""Tell whether a checkpoint's bytes are those that were written.

``torch.load`` sees a truncated file, but loads flipped bits as wrong weights without a word. ``torch.save`` writes zip
files, which hold a CRC-32 of each part: they are compared here.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from lightning_debugkit.checkpointing.durable_files import size_of
from lightning_debugkit.checkpointing.records import Record


class DamagedCheckpoint(RuntimeError):
    """A checkpoint's bytes are not those that were written."""


def digest(path: Path) -> str:
    """Return a CRC-32 over what a file's zip directory holds: names, sizes and CRC-32s of its parts.

    Of a folder it is that of the names and sizes of its files. A file that is no zip has none: the empty string.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        parts = [f"{file.relative_to(path).as_posix()}:{file.stat().st_size}" for file in files]
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                parts = [f"{part.filename}:{part.file_size}:{part.CRC}" for part in archive.infolist()]
        except zipfile.BadZipFile:
            return ""
    return f"{zlib.crc32(chr(10).join(parts).encode()):08x}"


def is_checked(path: Path) -> bool:
    """Tell whether a file holds CRC-32s; ``torch.serialization.set_crc32_options(False)`` leaves them out."""
    if path.is_dir() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(part.CRC for part in archive.infolist())


def mismatch(path: Path, record: Record) -> str:
    """Return what is wrong with a file by its size and its directory, at little cost; empty if nothing is."""
    try:
        size = size_of(path)
        if size != record.size:
            return f"it has {size} bytes of {record.size}"
        return "" if digest(path) == record.digest else "its directory is not the one that was written"
    except FileNotFoundError:
        return "it is gone"
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        return f"it cannot be read ({error})"


def damage(path: Path, record: Record | None = None) -> str:
    """Return what is wrong with a file, by reading all of it; empty if nothing is.

    A file without a record can be judged by its own CRC-32s only.
    """
    found = mismatch(path, record) if record is not None else ""
    if found:
        return found
    try:
        if not path.exists():
            return "it is gone"
        if not is_checked(path):
            return "its end is missing" if _begins_as_zip(path) and not zipfile.is_zipfile(path) else ""
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
        return f"its part {bad} fails its CRC-32" if bad else ""
    except Exception as error:  # a flipped bit in a zip's own structure raises whatever it leads to
        return f"it cannot be read ({type(error).__name__}: {error})"


def _begins_as_zip(path: Path) -> bool:
    if path.is_dir():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"
