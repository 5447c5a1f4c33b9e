"""A folder of an object store, by fsspec: objects are put whole and never renamed, and a listing may be late."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import fsspec

from lightning_debugkit.checkpointing.durable_files import draft_of
from lightning_debugkit.checkpointing.records import SUFFIX, Record, in_order
from lightning_debugkit.checkpointing.verification import crc_of, damage, pieces_of

NEWEST = "newest.json"  # the newest record once more: an object is found by name before a listing shows it
_TRIES = 3
_PAUSE = 0.5  # seconds before the second try; twice as long before each that follows


def local_path(path: str | os.PathLike[str]) -> Path | None:
    """Return a path on a local or mounted disk, ``None`` for one on an object store."""
    text = os.fspath(path)
    if text.startswith(("file://", "local://")):
        return Path(text.partition("://")[2])
    return None if "://" in text or "::" in text else Path(text)


def is_url(path: Any) -> bool:
    """Tell whether a path is one of an object store; none at all is not.

    Example:
        >>> is_url("s3://bucket/run"), is_url("file:///tmp/run"), is_url("runs/1")
        (True, False, False)
    """
    return path is not None and local_path(path) is None


def missing_package(url: str) -> str:
    """Return what is to be installed for a URL, empty if nothing is."""
    try:
        fsspec.get_filesystem_class(url.partition("://")[0])
    except (ImportError, ValueError) as error:
        return str(error)
    return ""


class ObjectStore:
    """The checkpoints below a URL: an object each, and a record each, which is put last.

    Args:
        url: Such as ``s3://bucket/run``; keys and endpoints are those of fsspec's own settings.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._has_other_sums = False

    @cached_property
    def _place(self) -> tuple[Any, str]:
        fs, root = fsspec.core.url_to_fs(self.url)
        return fs, str(root).rstrip("/")

    @property
    def fs(self) -> Any:
        return self._place[0]

    def path(self, name: str) -> str:
        return f"{self.url}/{name}"

    def put(self, file: Path, record: Record) -> None:
        """Put a file and then its record; what has arrived is compared by size, and by its sum where the store has one.

        Raises:
            Exception: As the store gives it; without a record, what is there is no checkpoint.
        """
        key = self._key(record.name)
        self.fs.put_file(str(file), key)
        self._compare(file, key)
        self.put_record(record)

    def put_record(self, record: Record) -> None:
        """Put a record, new or renewed; it is whole or as it was."""
        self.fs.pipe_file(self._key(record.name + SUFFIX), record.to_json().encode())

    def point(self, record: Record) -> None:
        """Name the newest, for listings that are late."""
        self.fs.pipe_file(self._key(NEWEST), record.to_json().encode())

    def remove(self, record: Record) -> None:
        """Delete a record and then its object; what is gone is gone."""
        for name in (record.name + SUFFIX, record.name):
            with contextlib.suppress(FileNotFoundError):
                self.fs.rm_file(self._key(name))

    def records(self) -> list[Record]:
        """Return the records that are there, in the order of training.

        Raises:
            Exception: The store cannot be asked.
        """
        self.fs.invalidate_cache()
        try:
            listed = [str(path).rpartition("/")[2] for path in self.fs.ls(self._place[1], detail=False)]
        except FileNotFoundError:  # nothing is there yet
            listed = []
        names = [name for name in listed if name.endswith(f".ckpt{SUFFIX}")]
        found = {record.name: record for name in [*names, NEWEST] for record in self._record(name)}
        return in_order(found.values())

    def fetch(self, record: Record, folder: Path) -> Path:
        """Bring an object into ``folder``, whole or not at all; its bytes may be others than were written."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / record.name
        draft = draft_of(path)
        try:
            self.fs.get_file(self._key(record.name), str(draft))
            return draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def damage(self, record: Record, folder: Path | None) -> str:
        """Return what is wrong with an object, empty if nothing is: by its size, or by all of it, in ``folder``."""
        try:
            size = int(self.fs.info(self._key(record.name))["size"])
            if size != record.size:
                return f"it has {size} bytes of {record.size}"
            return damage(self.fetch(record, folder), record) if folder is not None else ""
        except FileNotFoundError:
            return "it is gone"

    def record(self, name: str) -> Record | None:
        """Return the record of an object, None if it has none."""
        return next(self._record(name + SUFFIX), None)

    def _record(self, name: str) -> Iterator[Record]:
        with contextlib.suppress(FileNotFoundError, ValueError):  # deleted since, or none of ours
            record = Record.from_json(self.fs.cat_file(self._key(name)).decode())
            is_there = name != NEWEST or self.fs.exists(self._key(record.name + SUFFIX))
            if "/" not in record.name and is_there and name in (NEWEST, record.name + SUFFIX):
                yield record

    def _key(self, name: str) -> str:
        return f"{self._place[1]}/{name}"

    def _compare(self, file: Path, key: str) -> None:
        expected = file.stat().st_size
        info: dict[str, Any] = {}
        for attempt in range(_TRIES):
            self.fs.invalidate_cache()
            with contextlib.suppress(FileNotFoundError):
                info = self.fs.info(key)
            if info.get("size") == expected:
                break
            if attempt < _TRIES - 1:
                time.sleep(_PAUSE * 2**attempt)
        else:
            raise OSError(errno.EIO, f"{info.get('size', 0)} bytes of {expected} have arrived", key)
        told = stored_md5(info)
        if told and not self._has_other_sums and told != _md5(file):
            # Where a store encrypts, its sum is of what it keeps: only the bytes tell then.
            with self.fs.open(key, "rb") as arrived, file.open("rb") as sent:
                if crc_of(arrived) != crc_of(sent):
                    raise OSError(errno.EIO, "other bytes have arrived than were sent", key)
            self._has_other_sums = True


def stored_md5(info: dict[str, Any]) -> str:
    """Return the MD5 that a store has of an object, in hexadecimal; empty if it has none.

    Example:
        >>> stored_md5({"ETag": '"9e107d9d372bb6826bd81d3542a419d6"'}), stored_md5({"ETag": '"0123-4"'})
        ('9e107d9d372bb6826bd81d3542a419d6', '')
    """
    tag = str(info.get("ETag") or "").strip('"').lower()
    if len(tag) == 32 and set(tag) <= set("0123456789abcdef"):
        return tag
    if isinstance(given := info.get("md5Hash"), str):
        with contextlib.suppress(ValueError):
            return base64.b64decode(given).hex()
    return ""


def _md5(file: Path) -> str:
    found = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as opened:
        for some in pieces_of(opened):
            found.update(some)
    return found.hexdigest()
