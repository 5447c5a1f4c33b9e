"""What rules keep in an object store: sent beside the training, the newest first to be had, deleted last."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning_debugkit.checkpointing.keep_reasons import kept, kept_by_rules
from lightning_debugkit.checkpointing.object_store import ObjectStore
from lightning_debugkit.checkpointing.records import Record
from lightning_debugkit.checkpointing.retention_rules import KeepRule

SPOOL = 3  # files that may wait; of a store that is away the newest, behind one that is slow the training waits
LAG = 60.0  # seconds that the training waits for a slow store before it counts as one that is away
RETRY = 30.0  # seconds after which a store that was away is asked again, without a new file
PATIENCE = 600.0  # seconds that the end of a training waits for what is still to be sent


class Mirror:
    """Keeps in an object store what its rules keep of one history.

    A file is put, compared, and then its record is put; only when all that waits is there, what no rule keeps any more
    is deleted, the record first. A thread of its own does it: a store that is away, or slow, holds nobody up.

    Args:
        is_only: Whether nothing else keeps files but for a while: then the newest stays, whatever the rules say.
    """

    def __init__(self, url: str, rules: Sequence[KeepRule], *, is_only: bool) -> None:
        self.store = ObjectStore(url)
        self.rules = tuple(rules)
        self.is_only = is_only
        self.there: dict[str, Record] = {}
        self.waiting: dict[str, tuple[Path, Record]] = {}
        self._wanted: set[str] = set()
        self._going: dict[str, Record] = {}
        self._tried: dict[str, Record] = {}  # of these a part may have arrived
        self._renewed: dict[str, Record] = {}
        self._folder = Path()
        self._gone: list[Record] = []
        self._problems: deque[tuple[Record | None, Exception]] = deque()
        self._lock = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_over = False
        self._is_told = self._is_away = False

    @property
    def records(self) -> list[Record]:
        """What is there, or will be."""
        with self._lock:
            return [*self.there.values(), *(record for _, record in self.waiting.values())]

    @property
    def staying(self) -> set[str]:
        """Names of what is there, and is not going to be deleted."""
        with self._lock:
            return self.there.keys() - self._going.keys()

    def read(self) -> None:
        """Ask what is there; a store that is away is taken for an empty one, and nothing unknown is ever deleted."""
        try:
            found = self.store.records()
        except Exception as error:
            self._problems.append((None, error))
            self._is_told = True
            return
        with self._lock:
            self.there = {record.name: record for record in found}

    def keeps(self, history: Sequence[Record], pinned: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
        """Return what is to be kept there, with the reasons."""
        return kept(history, self.rules, pinned) if self.is_only else kept_by_rules(history, self.rules)

    def follow(self, history: Sequence[Record], pinned: Mapping[str, str], folder: Path) -> None:
        """Let the store become what the rules make of ``history``, whose new files are in ``folder``."""
        wanted = self.keeps(history, pinned)
        with self._lock:
            self._wanted = set(wanted)
            self._folder = folder
            for record in history:
                if record.name not in wanted:
                    continue
                if record.name not in self.there and (folder / record.name).exists():
                    self.waiting[record.name] = (folder / record.name, record)
                elif self.there.get(record.name, record) != record:
                    self._renewed[record.name] = record
            staying = [name for name in self.waiting if name in wanted]
            self.waiting = {name: self.waiting[name] for name in staying}
            ours = {record.name for record in history}
            self._going |= {name: each for name, each in self.there.items() if name in ours and name not in wanted}
            if self._thread is None and (self.waiting or self._going or self._renewed):
                # No pool: what hangs in a store must not keep the process from its end.
                self._thread = threading.Thread(target=self._work, name="checkpoint-mirror", daemon=True)
                self._thread.start()
            self._is_over = False
            self._lock.notify_all()
            self._bound()

    def _bound(self) -> None:
        """Let no more files wait than may: wait for a store that is slow; give up the oldest for one that is away."""
        ends = time.monotonic() + LAG
        while len(self.waiting) > SPOOL and not self._is_away and time.monotonic() < ends:
            self._lock.wait(0.05)
        self._is_away |= len(self.waiting) > SPOOL
        for name in list(self.waiting)[:-SPOOL]:
            del self.waiting[name]

    def problems(self) -> list[tuple[Record | None, Exception]]:
        """Return what has failed since this was asked last; a store that stays away is told once."""
        found = []
        while self._problems:
            found.append(self._problems.popleft())
        return found

    def take_gone(self) -> list[Record]:
        """Return what the store has lost and is not here either, since this was asked last."""
        taken, self._gone = self._gone, []
        return taken

    def close(self, patience: float = PATIENCE) -> list[str]:
        """Wait until all is sent, or until the store fails once more; return the names that still wait in the spool."""
        ends = time.monotonic() + patience
        with self._lock:
            self._is_over = True
            self._lock.notify_all()
            while self._thread is not None and self._thread.is_alive() and time.monotonic() < ends:
                self._lock.wait(0.05)
            self._thread = None
            return list(self.waiting)

    def _work(self) -> None:
        while True:
            failed = self._drain()
            with self._lock:
                if not failed and self._has_work():
                    continue
                if self._is_over:
                    return
                self._lock.wait(RETRY if failed else None)

    def _has_work(self) -> bool:
        return bool(self.waiting or self._going or self._renewed)

    def _drain(self) -> bool:
        """Send all that waits, then delete; tell whether something failed."""
        record: Record | None = None
        try:
            while True:
                with self._lock:
                    path, record = next(reversed(self.waiting.values()), (None, None))
                if path is None or record is None:
                    break
                self._send(path, record)
            self._renew()
            self._sweep()
            self._delete()
            if self._is_told:
                self._look_again()
        except Exception as error:
            if not self._is_told:
                self._problems.append((record, error))
            self._is_told = self._is_away = True
            return True
        self._is_told = self._is_away = False
        return False

    def _send(self, path: Path, record: Record) -> None:
        try:
            self.store.put(path, record)
        except Exception as error:
            self._tried[record.name] = record
            if path.exists() or not isinstance(error, FileNotFoundError):
                raise
            with self._lock:  # deleted here since no rule keeps it any more
                self.waiting.pop(record.name, None)
            return
        with self._lock:
            self.there[record.name] = record
            if record.name not in self._wanted:
                self._going[record.name] = record
            self.waiting.pop(record.name, None)
            newest = max(self.there.values(), key=lambda each: (each.time, each.step))
        self.store.point(newest)
        self._is_away = False

    def _look_again(self) -> None:
        """See what a store that was away has lost; what is here still, and wanted, is sent again."""
        with self._lock:
            there = list(self.there.values())
        lost = [record for record in there if self.store.record(record.name) is None]
        with self._lock:
            for record in lost:
                del self.there[record.name]
                path = self._folder / record.name
                if record.name in self._wanted and path.exists():
                    self.waiting[record.name] = (path, record)
            self._gone += [record for record in lost if record.name not in self.waiting]

    def _renew(self) -> None:
        while self._renewed:
            with self._lock:
                record = next(iter(self._renewed.values()))
            self.store.put_record(record)
            with self._lock:
                self.there[record.name] = record
                if self._renewed.get(record.name) == record:
                    del self._renewed[record.name]

    def _sweep(self) -> None:
        """Let go of what has arrived in part and is not going to be sent again."""
        with self._lock:
            over = {n: each for n, each in self._tried.items() if n not in self.waiting and n not in self.there}
            self._going |= over
            self._tried = {name: each for name, each in self._tried.items() if name in self.waiting}

    def _delete(self) -> None:
        while True:
            with self._lock:
                record = next(iter(self._going.values()), None)
            if record is None:
                return
            self.store.remove(record)
            with self._lock:
                self._going.pop(record.name, None)
                self.there.pop(record.name, None)
