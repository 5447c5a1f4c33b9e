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

from lightning_debugkit.checkpointing.records import SUFFIX, Record, in_order
from lightning_debugkit.checkpointing.verification import crc_of, damage, pieces_of
from lightning_debugkit.core.atomic_files import draft_of, remove_durably

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


class StrangeShards(ValueError):
    """A record names shards that lie elsewhere than in its folder."""


def objects_of(record: Record) -> list[str]:
    """Return the names of the objects of a checkpoint: of its file, or of its shards.

    Raises:
        StrangeShards: One leads out of the folder.

    >>> from lightning_debugkit.checkpointing.records import Moment
    >>> objects_of(Record("a.ckpt", Moment(1), shards={"__0_0.distcp": (9, "0"), "meta.pt": (1, "0")}))
    ['a.ckpt/__0_0.distcp', 'a.ckpt/meta.pt']
    """
    outside = next((name for name in record.shards if Path(name).name != name), None)
    if outside is not None:
        raise StrangeShards(f"its record leads out of the folder, to {outside!r}")
    return [f"{record.name}/{name}" for name in record.shards] or [record.name]


class ObjectStore:
    """The checkpoints below a URL: an object each, or one for each shard, and a record each, which is put last.

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

    def put(self, path: Path, record: Record) -> None:
        """Put a file, or every shard of a folder, and then its record.

        What has arrived is compared by size, and by its sum where the store has one.

        Raises:
            Exception: As the store gives it; without a record, what is there is no checkpoint.
        """
        for name in objects_of(record):
            file = path / name.partition("/")[2]  # of a file itself
            self.fs.put_file(str(file), self._key(name))
            self._compare(file, self._key(name))
        self.put_record(record)

    def put_record(self, record: Record) -> None:
        """Put a record, new or renewed; it is whole or as it was."""
        self.fs.pipe_file(self._key(record.name + SUFFIX), record.to_json().encode())

    def point(self, record: Record) -> None:
        """Name the newest, for listings that are late."""
        self.fs.pipe_file(self._key(NEWEST), record.to_json().encode())

    def remove(self, record: Record) -> None:
        """Delete a record and then its objects; what is gone is gone."""
        for name in (record.name + SUFFIX, *objects_of(record)):
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
        """Bring a file or a folder of shards into ``folder``, whole or not at all; its bytes may have changed.

        Raises:
            FileNotFoundError: It is not there, or not all of it.
            StrangeShards: Its record leads out of the folder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / record.name
        draft = draft_of(path)
        try:
            if record.shards:
                draft.mkdir()
            for name in objects_of(record):
                self.fs.get_file(self._key(name), str(draft / name.partition("/")[2]))
            return draft.replace(path)
        finally:
            remove_durably(draft)

    def copy(self, name: str, folder: Path) -> Path:
        """Bring a file without a record, or the files that lie in a folder, into ``folder``.

        Raises:
            FileNotFoundError: It is not there.
        """
        key, path = self._key(name), folder / name
        if not self.fs.exists(key):
            raise FileNotFoundError(f"There is no checkpoint {self.path(name)!r}; check the URL.")
        if not self.fs.isdir(key):
            self.fs.get_file(key, str(path))
            return path
        path.mkdir()
        for each in self.fs.ls(key, detail=False):
            inside = str(each).rpartition("/")[2]
            self.fs.get_file(f"{key}/{inside}", str(path / inside))
        return path

    def damage(self, record: Record, folder: Path | None) -> str:
        """Return what is wrong with an object, empty if nothing is: by its size, or by all of it, in ``folder``."""
        try:
            size = sum(int(self.fs.info(self._key(name))["size"]) for name in objects_of(record))
            if size != record.size:
                return f"it has {size} bytes of {record.size}"
            return damage(self.fetch(record, folder), record) if folder is not None else ""
        except FileNotFoundError:
            return "it is gone"
        except StrangeShards as error:
            return str(error)

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
