"""An object store that misbehaves as real ones do: ``faulty://``, beside the sound ``memory://``."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import md5
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


@dataclass
class Faults:
    """What goes wrong, and how often; 0 is never, -1 always.

    Args:
        refused: Puts and listings that end in a refused connection.
        unavailable: Puts that end in a 503.
        halves: Puts that leave half of the bytes and say nothing.
        flips: Puts that change a byte and say nothing; the store has an MD5.
        kept: Deletions that fail.
        held: Puts wait until this is set.
        listing: What a listing shows, whatever is there.
    """

    refused: int = 0
    unavailable: int = 0
    halves: int = 0
    flips: int = 0
    kept: int = 0
    held: threading.Event | None = None
    listing: list[str] | None = None
    calls: list[str] = field(default_factory=list)

    def strikes(self, name: str) -> bool:
        left = getattr(self, name)
        if left > 0:
            setattr(self, name, left - 1)
        return left != 0


class FaultyStore(MemoryFileSystem):
    """Has no rename and no links; objects are whole when they are there, unless a fault says otherwise."""

    protocol = "faulty"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    faults: ClassVar[Faults] = Faults()

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return str(super()._strip_protocol(str(path).replace("faulty://", "memory://")))

    def put_file(self, lpath: str, rpath: str, *args: Any, **options: Any) -> None:
        with open(lpath, "rb") as file:  # noqa: PTH123 - as fsspec does
            self._put(rpath, file.read())

    def pipe_file(self, path: str, value: bytes, *args: Any, **options: Any) -> None:
        self._put(path, value)

    def _put(self, path: str, data: bytes) -> None:
        faults = type(self).faults
        faults.calls.append(f"put {path.rpartition('/')[2]}")
        if faults.held is not None:
            faults.held.wait(20)
        if faults.strikes("refused"):
            raise ConnectionRefusedError(111, "Connection refused")
        if faults.strikes("unavailable"):
            raise OSError(16, "An error occurred (503) when calling the PutObject operation: Slow Down")
        if faults.strikes("halves"):
            data = data[: len(data) // 2]
        elif faults.strikes("flips"):
            data = data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]
        super().pipe_file(path, data)

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        found: dict[str, Any] = super().info(path, **options)
        if found["type"] == "file":
            found["ETag"] = f'"{md5(self.cat_file(path), usedforsecurity=False).hexdigest()}"'
        return found

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        faults = type(self).faults
        if faults.strikes("refused"):
            raise ConnectionRefusedError(111, "Connection refused")
        if faults.listing is not None:
            return [f"{path}/{name}" for name in faults.listing]
        return super().ls(path, detail=detail, **options)

    def rm_file(self, path: str) -> None:
        type(self).faults.calls.append(f"rm {path.rpartition('/')[2]}")
        if type(self).faults.strikes("kept"):
            raise OSError(5, "Internal error")
        super().rm_file(path)

    def mv(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError("an object store knows no rename")

    copy = cp_file = rename = move = mv


@contextmanager
def faults(**given: Any) -> Iterator[Faults]:
    """An empty store with these faults."""
    fsspec.register_implementation("faulty", FaultyStore, clobber=True)
    FaultyStore.store.clear()
    FaultyStore.faults = Faults(**given)
    try:
        yield FaultyStore.faults
    finally:
        FaultyStore.store.clear()
        FaultyStore.faults = Faults()
