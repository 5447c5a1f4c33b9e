"""Pack captured files, and open a pack that anybody may have made: what is not exactly as it says is refused."""

from __future__ import annotations

import hashlib
import io
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MOST_BYTES = 256_000_000  # unpacked; sources are a hundredth of it
_MOST_FILES = 100_000
_PLAUSIBLE = 50_000_000, 100  # unpacked bytes above which no more than so many times the packed ones are believed
_LONGEST_PATH, _LONGEST_NAME = 1000, 255
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
# In a folder that git takes for a repository, its configuration names programs that git runs.
_GIT = re.compile(r"(\.git|git~\d+)[. ]*", re.IGNORECASE)
_WHEN = (1980, 1, 1, 0, 0, 0)


class RefusedArchive(ValueError):
    """An archive is not what its manifest says, or would write where it may not; the message says which."""


@dataclass(frozen=True)
class Archive:
    """Files whose names are harmless and whose contents have the recorded hashes."""

    contents: Mapping[str, bytes]

    def __iter__(self) -> Iterator[str]:
        return iter(self.contents)

    def __getitem__(self, path: str) -> bytes:
        return self.contents[path]


def pack(contents: Mapping[str, bytes]) -> bytes:
    """Return a zip file of ``contents``; the same contents give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(contents):
            entry = zipfile.ZipInfo(path, _WHEN)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # whatever the machine
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, contents[path])
    return buffer.getvalue()


def open_archive(data: bytes, files: Iterable[Mapping[str, Any]]) -> Archive:
    """Read a pack of sources; nothing is written and nothing runs.

    Args:
        files: What its manifest says of each file: ``path``, ``bytes`` and ``sha256``.

    Raises:
        Refused: A path leads outside, a name is there twice, a size or hash is not the recorded one, or it is too much.
    """
    declared = list(files)
    _check_files(declared, len(data))
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _check_entries(entries, {str(file["path"]) for file in declared})
            contents = {str(file["path"]): _read(archive, file) for file in declared}
    except RefusedArchive:
        raise
    except Exception as error:  # a crafted zip file may fail in any way: struct.error, NotImplementedError, zlib.error
        raise RefusedArchive(f"the archive cannot be read ({type(error).__name__}: {error})") from error
    return Archive(contents)


def name_fault(path: Any) -> str | None:
    """Return why ``path`` must not become a file's name below a folder, ``None`` if it may.

    >>> name_fault("pkg/model.py"), name_fault("../x"), name_fault("C:/x")
    (None, "it has a '..' in it", 'it has a character that is none of a file name')
    """
    if not isinstance(path, str) or not path:
        return "it is no text"
    if path.startswith("/"):
        return "it is absolute"
    if any(character in '\\:*?"<>|' or not character.isprintable() for character in path):
        return "it has a character that is none of a file name"
    if len(path) > _LONGEST_PATH:
        return "it is too long"
    for name in path.split("/"):
        if name in ("", ".", ".."):
            return f"it has a {name!r} in it"
        if _GIT.fullmatch(name):
            return "it would be read by git as its own"
        if len(name.encode()) > _LONGEST_NAME or name[-1] in ". " or _DEVICES.fullmatch(name):
            return f"{name[:50]!r} is no name on every system"
    return None


def same_place(path: str) -> str:
    """Return what two paths share that are one file on a system that knows no case.

    >>> same_place("Pkg/Model.py") == same_place("pkg/model.py")
    True
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _check_files(files: list[Mapping[str, Any]], packed: int) -> None:
    if len(files) > _MOST_FILES:
        raise RefusedArchive(f"it lists {len(files):,} files; {_MOST_FILES:,} are the most")
    total = 0
    for file in files:
        path, size = file.get("path"), file.get("bytes")
        fault = name_fault(path)
        if fault:
            raise RefusedArchive(f"{str(path)[:200]!r} may not be written: {fault}")
        if not isinstance(size, int) or size < 0:
            raise RefusedArchive(f"{path!r} has no size")
        total += size
    if total > MOST_BYTES:
        raise RefusedArchive(f"it unpacks to {total:,} bytes; {MOST_BYTES:,} are the most")
    usual, times = _PLAUSIBLE
    if total > max(usual, times * packed):
        raise RefusedArchive(f"{packed:,} bytes that unpack to {total:,} are no sources")
    _check_places([str(file["path"]) for file in files])


def _check_places(paths: list[str]) -> None:
    seen: dict[str, str] = {}
    for path in paths:
        place = same_place(path)
        if place in seen:
            raise RefusedArchive(f"{path!r} and {seen[place]!r} are one file on some systems")
        seen[place] = path
    for path in paths:
        place = same_place(path)
        while "/" in place:
            place = place.rpartition("/")[0]
            if place in seen:
                raise RefusedArchive(f"{seen[place]!r} is a file and the folder of {path!r}")


def _check_entries(entries: list[zipfile.ZipInfo], declared: set[str]) -> None:
    names = [entry.orig_filename for entry in entries]
    if len(set(names)) != len(names):
        raise RefusedArchive("it holds the same name twice")
    unknown = [name for name in names if name not in declared]
    if unknown:
        raise RefusedArchive(f"it holds {unknown[0][:200]!r}, of which the manifest knows nothing")
    missing = sorted(declared.difference(names))
    if missing:
        raise RefusedArchive(f"it lacks {missing[0]!r}, which the manifest lists")
    for entry in entries:
        kind = (entry.external_attr >> 16) & 0o170000
        if entry.is_dir() or kind not in (0, 0o100000):
            raise RefusedArchive(f"{entry.filename!r} is no plain file but a link, a folder or a device")
        if entry.flag_bits & 0x1:
            raise RefusedArchive(f"{entry.filename!r} is encrypted")


def _read(archive: zipfile.ZipFile, file: Mapping[str, Any]) -> bytes:
    path, size = str(file["path"]), int(file["bytes"])
    entry = archive.getinfo(path)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RefusedArchive(f"{path!r} is packed in a way that sources are not")
    if entry.file_size != size:
        raise RefusedArchive(f"{path!r} has {entry.file_size:,} bytes, the manifest says {size:,}")
    try:
        with archive.open(entry) as member:
            data = member.read(size + 1)  # whatever its header says
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise RefusedArchive(f"{path!r} is damaged ({error})") from error
    if len(data) != size or hashlib.sha256(data).hexdigest() != file.get("sha256"):
        raise RefusedArchive(f"{path!r} is not the file that was captured: its SHA-256 differs")
    return data
