"""A folder of checkpoints: commit, then link, then delete, so that no moment is without the best that is known."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lightning_debugkit.checkpointing.keep_reasons import doomed, kept
from lightning_debugkit.checkpointing.records import SUFFIX, Lineage, Record, Shards, history, in_order, read_records
from lightning_debugkit.checkpointing.retention_rules import Best, KeepRule
from lightning_debugkit.checkpointing.verification import mismatch, sealed
from lightning_debugkit.core.atomic_files import (
    discard,
    is_full,
    link_durably,
    remove_durably,
    size_of,
    sync_file,
    sync_folder,
    write_bytes,
    write_whole,
)

LAST, BEST = "last.ckpt", "best.ckpt"
_SMALL = 1 << 22  # bytes: to delete that much takes no longer than to hand it to a thread
_settling: weakref.WeakSet[Store] = weakref.WeakSet()


@dataclass(frozen=True)
class Saved:
    """What one save has done."""

    record: Record
    seconds: float
    free: int


@dataclass(frozen=True)
class _Settled:
    """What became of a file that the device was to take."""

    record: Record
    gone: list[Record]  # what was deleted, as it is there
    error: OSError | None = None  # it is not there, and nothing was deleted


class Store:
    """The checkpoints of one fit in a folder that may hold others.

    A checkpoint exists when its record does: the file is written first, its record after it. It ends in the reverse
    order. Records are read once, at the start; this object is then the only one that changes the files of its fit.

    With a thread (``beside``), training does not wait for the device: until it has a file, none goes for that. The
    next change of the folder waits for it, as do the end and a fork, whose child would hold the file open.
    """

    def __init__(self, folder: Path, rules: Sequence[KeepRule], run: str, *, fsync: bool = True) -> None:
        self.folder = folder
        self.rules = tuple(rules)
        self.run = run  # name of this fit
        self.fsync = fsync  # have the device take each file
        self.lineage: Lineage = ()
        self.pinned: dict[str, str] = {}
        self.elsewhere: Callable[[], Collection[str]] = tuple  # names of files that an object store has, too
        self.records: list[Record] = []
        self._history: tuple[list[Record], Lineage, list[Record]] = ([], (), [])
        self._dropped: list[Record] = []
        # Takes what the training need not wait for: the device, and the deletion of large files, whose blocks may take
        # as long to free as to write.
        self.beside: Executor | None = None
        self._going: list[Future[None]] = []
        self._settled: Future[_Settled] | None = None
        self._leaving: list[Record] = []  # what goes once the device has that file
        self._lost: list[tuple[Record, OSError]] = []

    def read(self) -> None:
        """Read the records on disk."""
        self.records = read_records(self.folder)

    @property
    def history(self) -> list[Record]:
        """The records that led to here; those of other fits and of branches left behind are set aside."""
        records = self.records  # never changed, but renewed: it is asked for a dozen times a save
        of, lineage, found = self._history
        if of is not records or lineage != self.lineage:
            found = history(records, self.run, self.lineage)
            self._history = records, self.lineage, found
        return list(found)

    @property
    def aside(self) -> list[Record]:
        """The records of other fits, and of branches that were left by going back: no rule of ours touches them."""
        ours = {record.name for record in self.history}
        return [record for record in self.records if record.name not in ours]

    @property
    def reasons(self) -> dict[str, tuple[str, ...]]:
        """Why each file of the history stays."""
        return kept(self.history, self.rules, self.pinned)

    def path(self, record: Record) -> Path:
        return self.folder / record.name

    def save(
        self, draft: Record, write: Callable[[Path], object], *, in_folder: bool = False, shards: Shards | None = None
    ) -> Saved:
        """Write a checkpoint, commit it, link it, and delete what no rule keeps any more.

        On a full disk, what the new file would replace is deleted, and the write is tried again, once; not of shards.

        Args:
            draft: Its record, but for size and digest.
            write: Writes it to the path it is given; may be called twice, of shards once.
            in_folder: Whether it may write a folder.
            shards: Of a folder of shards, size and CRC-32 of each, as those who wrote them know them.

        Raises:
            OSError: It could not be written; every file is as it was, but for room that was made.
        """
        began = time.monotonic()
        self.wait()
        beside = self.beside if self.fsync and not in_folder else None
        commit = partial(self._commit, draft, write, in_folder, shards, fsync=self.fsync and beside is None)
        try:
            record = commit()
        except Exception as error:
            if not (is_full(error) and self._drop(self._replaced_by(draft))) or shards is not None:
                raise
            self.wait()
            record = commit()
        going = doomed(self.history, self.rules, self.pinned)
        free = self.free + sum(each.size for each in going)  # they go later
        self._link()
        if beside is None or record in going:
            self._drop(self._sparing(going) if record in going else going)
        else:
            self._leaving = going
            self._settled = beside.submit(self._settle, record, going)
            _settling.add(self)
        return Saved(record, time.monotonic() - began, free)

    def amend(self, record: Record) -> None:
        """Renew a record whose file stays as it is, then delete what no rule keeps any more."""
        write_bytes(self._record_path(record), record.to_json().encode(), fsync=self.fsync)
        self._replace(record)
        self.retain()

    def retain(self) -> None:
        """Set the links, then delete what no rule keeps."""
        self.wait()
        self._link()
        self._drop(self._sparing(doomed(self.history, self.rules, self.pinned)))

    def take_dropped(self) -> list[Record]:
        """Return what was deleted since this was asked last."""
        taken, self._dropped = self._dropped, []
        return taken

    def take_lost(self) -> list[tuple[Record, OSError]]:
        """Return the files that the device did not take, since this was asked last."""
        taken, self._lost = self._lost, []
        return taken

    def forget_gone(self) -> list[Record]:
        """Return the files that somebody else has deleted: from now on no new one is ranked against them."""
        names = set()
        with contextlib.suppress(OSError):
            names = {path.name for path in self.folder.iterdir()}
        # A listing may be late on a network's filesystem.
        staying = [each for each in self.history if each not in self._leaving]
        gone = [each for each in staying if each.name not in names and not os.path.lexists(self.path(each))]
        if gone:
            self._forget(gone)
        return gone

    def make_room(self, draft: Record) -> None:
        """Delete what ``draft`` would replace, but never the last file that is sound."""
        self.wait()
        self._drop(self._replaced_by(draft))

    def wait(self) -> None:
        """Wait for the device, and for deletions under way."""
        while self._going:
            self._going.pop().exception()
        settled, self._settled = self._settled, None
        if settled is None:
            return
        _settling.discard(self)
        found = settled.result()
        self._leaving = []
        self._forget(found.gone)
        self._dropped += found.gone
        if found.error is not None:
            self._lost.append((found.record, found.error))
            self._drop([found.record])
            self._link()

    def await_device(self) -> None:
        """Wait for what is under way, and leave it to `wait` to take note of it."""
        if self._settled is not None:
            self._settled.exception()

    def _settle(self, record: Record, going: list[Record]) -> _Settled:
        try:
            sync_file(self.path(record))
            sync_folder(self.folder)
        except OSError as error:
            return _Settled(record, [], error)
        return _Settled(record, [each for each in going if self._unlink(each)])

    @property
    def free(self) -> int:
        """Bytes that are left on the disk."""
        return shutil.disk_usage(self.folder).free

    def _commit(
        self, draft: Record, write: Callable[[Path], object], in_folder: bool, shards: Shards | None, *, fsync: bool
    ) -> Record:
        path = self.path(draft)
        if path.exists():
            raise FileExistsError(errno.EEXIST, "a checkpoint is never overwritten", str(path))
        if shards is None:  # they are on the disk already
            self.expect_room()
        made: list[Record] = []

        def save(target: Path) -> None:
            write(target)
            size = 0
            with contextlib.suppress(FileNotFoundError):  # Lightning's own writer passes over a PermissionError
                size = size_of(target)
            if not size:
                raise PermissionError(errno.EACCES, "the checkpoint was not written", str(path))
            made.append(sealed(target, draft, size, shards))

        write_whole(path, save, fsync=fsync, in_folder=in_folder)
        record = made[0]
        try:
            # By way of a draft: written in place, a kill may leave an empty one. Torn by a loss of power, it is made
            # anew of what the file says of itself; a file of others says nothing.
            write_bytes(self._record_path(record), record.to_json().encode(), fsync=fsync and in_folder)
        except BaseException:
            remove_durably(path)
            raise
        if fsync:
            # Once for both names: a loss of power before it costs this file, and none has been deleted for it yet.
            sync_folder(self.folder)
        self._replace(record)
        return record

    def expect_room(self) -> None:
        """Make the folder, and do not fill a disk to its last byte for a file that cannot fit: logs need some, too.

        Raises:
            OSError: Less is free than the newest file has.
        """
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True, exist_ok=True)
        newest = self.history[-1:]
        if newest and self.free < newest[0].size:
            raise OSError(errno.ENOSPC, f"a file of {newest[0].size} bytes is due, {self.free} are free")

    def _replaced_by(self, draft: Record) -> list[Record]:
        """Return what could be deleted if ``draft`` were written, but never the last file that is sound."""
        going = doomed([*self.history, draft], self.rules, self.pinned)
        going = [record for record in going if record.name != draft.name]
        return self._sparing(going)

    def _drop(self, going: Iterable[Record]) -> list[Record]:
        gone = [record for record in going if self._unlink(record, self.beside)]
        self._forget(gone)
        self._dropped += gone
        return gone

    def _forget(self, gone: Collection[Record]) -> None:
        # A new list: beside the training, another thread may be reading the old one.
        self.records = [record for record in self.records if record not in gone]

    def _unlink(self, record: Record, beside: Executor | None = None) -> bool:
        """Delete a file; one that cannot be deleted stays, with its record, and is tried again next time."""
        path = self.path(record)
        try:
            # A record without its file would name what is not there: the record goes first.
            self._record_path(record).unlink(missing_ok=True)
        except OSError:
            return False
        with contextlib.suppress(OSError):
            if beside is None or record.size < _SMALL:
                discard(path)
            else:
                self._going.append(beside.submit(discard, path))
        return True

    def _sparing(self, going: list[Record]) -> list[Record]:
        """Return ``going`` without its newest sound file, if no other of the history is sound, here or elsewhere."""
        if not going:
            return []
        names = {record.name for record in going}
        if names & set(self.elsewhere()) or any(
            not mismatch(self.path(record), record) for record in reversed(self.history) if record.name not in names
        ):
            return going
        spared = next((record for record in reversed(going) if not mismatch(self.path(record), record)), None)
        return [record for record in going if record is not spared]

    def _link(self) -> None:
        ours = self.history
        best = next((rule.ranked(ours)[:1] for rule in self.rules if isinstance(rule, Best)), [])
        for name, target in ((LAST, ours[-1:]), (BEST, best)):
            if target:
                self._point(self.folder / name, target[0])

    def _point(self, path: Path, record: Record) -> None:
        with contextlib.suppress(OSError, NotImplementedError):  # not every filesystem has links
            try:
                is_so = os.readlink(path) == record.name  # noqa: PTH115 (a Path of it would be made for nothing)
            except FileNotFoundError:
                is_so = False  # any other error: somebody else's file
            if not is_so:
                link_durably(path, record.name)

    def _record_path(self, record: Record) -> Path:
        return self.folder / (record.name + SUFFIX)

    def _replace(self, record: Record) -> None:
        others = [other for other in self.records if other.name != record.name]
        self.records = in_order([*others, record])


def _before_fork() -> None:
    for store in list(_settling):
        store.await_device()


if hasattr(os, "register_at_fork"):  # Windows forks nothing
    os.register_at_fork(before=_before_fork)
