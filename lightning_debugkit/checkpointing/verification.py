"""Tell whether a checkpoint's bytes are those that were written.

``torch.load`` sees a truncated file, but loads flipped bits as wrong weights without a word. ``torch.save`` writes zip
files, which hold a CRC-32 of each part: they are compared here. Of a folder of shards the record has that of each file.
"""

from __future__ import annotations

import errno
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from lightning_debugkit.checkpointing.records import FOLDER_RECORD, Record, Shards
from lightning_debugkit.core.atomic_files import size_of

_PIECE = 1 << 22  # bytes read at a time
_END = struct.Struct("<4s36xQQ4s16x4s18x")  # ends of the directory: PKWARE's APPNOTE, 4.3.14 to 4.3.16


class DamagedCheckpoint(RuntimeError):
    """A checkpoint's bytes are not those that were written."""


def digest(path: Path) -> str:
    """Return the CRC-32 of a zip file's directory, which holds names, sizes, places and CRC-32s of its parts.

    Of a folder it is that of the names and sizes of its files. A file that is no zip has none: the empty string.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        parts = [f"{file.relative_to(path).as_posix()}:{file.stat().st_size}" for file in files]
        return _crc_of_lines(parts)
    with path.open("rb", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        begins = _directory(file, size)
        if begins is None:
            return ""
        file.seek(begins)
        return f"{zlib.crc32(file.read(size - begins)):08x}"


def _older_digest(path: Path) -> str:
    """Return the digest of records that were written before the directory was taken as it is: of what zipfile reads."""
    if path.is_dir() or not zipfile.is_zipfile(path):
        return ""
    with zipfile.ZipFile(path) as archive:
        parts = [f"{part.filename}:{part.file_size}:{part.CRC}" for part in archive.infolist()]
    return _crc_of_lines(parts)


def _crc_of_lines(lines: list[str]) -> str:
    return f"{zlib.crc32(chr(10).join(lines).encode()):08x}"


def _directory(file: IO[bytes], size: int) -> int | None:
    """Return where the directory of a zip file begins, None if it is no zip file.

    `zipfile` makes an object of each part, which takes longer than to write a small checkpoint: it is asked only where
    the file does not end as those of ``torch.save`` do.
    """
    file.seek(max(size - _END.size, 0))
    last = file.read()
    if len(last) == _END.size:
        end, length, begins, way, short_end = _END.unpack(last)
        if (end, way, short_end) == (b"PK\6\6", b"PK\6\7", b"PK\5\6") and begins + length + _END.size == size:
            return int(begins)
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.start_dir
    except zipfile.BadZipFile:
        return None


def checksums(folder: Path, prefix: str = "") -> dict[str, tuple[int, str]]:
    """Return size and CRC-32 of each file of a folder whose name begins with ``prefix``, by reading all of it."""
    return {name: (path.stat().st_size, _crc(path)) for name, path in _shards(folder, prefix)}


def _shards(folder: Path, prefix: str = "") -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(prefix) and path.name != FOLDER_RECORD:
            if path.is_symlink() or not path.is_file():
                raise OSError(f"{path.name} is no file of its own")
            yield path.name, path


def crc_of(file: IO[bytes]) -> str:
    """Return the CRC-32 of what is left to read of an open file."""
    crc = 0
    for some in pieces_of(file):
        crc = zlib.crc32(some, crc)
    return f"{crc:08x}"


def pieces_of(file: IO[bytes]) -> Iterator[bytes]:
    """Yield what is left to read of an open file, some at a time."""
    while some := file.read(_PIECE):
        yield some


def _crc(path: Path) -> str:
    with path.open("rb") as file:
        return crc_of(file)


def is_checked(path: Path) -> bool:
    """Tell whether a file holds CRC-32s; ``torch.serialization.set_crc32_options(False)`` leaves them out."""
    if path.is_dir() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(part.CRC for part in archive.infolist())


def mismatch(path: Path, record: Record) -> str:
    """Return what is wrong with a file by its size and its directory, at little cost; empty if nothing is."""
    try:
        if record.shards:
            return _missing({name: file.stat().st_size for name, file in _shards(path)}, record.shards)
        size = size_of(path)
        if size != record.size:
            return f"it has {size} bytes of {record.size}"
        same = digest(path) == record.digest or _older_digest(path) == record.digest
        return "" if same else "its directory is not the one that was written"
    except FileNotFoundError:
        return "it is gone"
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        return f"it cannot be read ({error})"


def sealed(path: Path, draft: Record, size: int, shards: Shards | None) -> Record:
    """Return the record of what was written at ``path``; a folder of shards holds it, too, before it gets its name.

    Raises:
        OSError: Not all shards that others have written are there.
    """
    if shards is None:
        return draft.sealed(size, digest(path))
    record = draft.sealed(size, "", shards)
    if found := mismatch(path, record):
        raise OSError(errno.EIO, f"{found}: the folder must be one that all processes share", str(path))
    (path / FOLDER_RECORD).write_text(record.to_json(), encoding="utf-8")
    return record


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
        if record is not None and record.shards:
            return _spoiled(path, record.shards)
        if not is_checked(path):
            return "its end is missing" if _begins_as_zip(path) and not zipfile.is_zipfile(path) else ""
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
        return f"its part {bad} fails its CRC-32" if bad else ""
    except Exception as error:  # a flipped bit in a zip's own structure raises whatever it leads to
        return f"it cannot be read ({type(error).__name__}: {error})"


def _missing(sizes: Mapping[str, int], shards: Shards) -> str:
    """Compare the names and sizes of a folder's files with those of its record."""
    for name, (size, _) in shards.items():
        if name not in sizes:
            return f"its shard {name} is missing"
        if sizes[name] != size:
            return f"its shard {name} has {sizes[name]} bytes of {size}"
    strange = sorted(set(sizes) - set(shards))
    return f"its record does not name {strange[0]}" if strange else ""


def _spoiled(folder: Path, shards: Shards) -> str:
    """Read every shard, and what the folder says of them, which PyTorch would unpickle whatever it names."""
    from lightning_debugkit.checkpointing.shard_metadata import NotWhole, is_sharded_file, read_metadata

    found = checksums(folder)
    bad = next((name for name, shard in shards.items() if found.get(name) != tuple(shard)), "")
    if bad:
        return f"its shard {bad} fails its CRC-32"
    if not is_sharded_file(folder):
        return "nothing in it describes its shards"
    try:
        named = {str(place.relative_path) for place in read_metadata(folder).storage_data.values()}
    except NotWhole as error:
        return str(error)
    other = sorted(named - set(shards))
    return f"it speaks of {other[0]}, which its record does not name" if other else ""


def _begins_as_zip(path: Path) -> bool:
    if path.is_dir():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"
