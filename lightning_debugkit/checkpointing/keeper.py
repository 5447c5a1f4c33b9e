"""Carry out saves, at once or beside the training, and tell afterwards what became of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from lightning_debugkit.checkpointing.keep_rules import KeepRule, Latest, Occasion
from lightning_debugkit.checkpointing.records import Moment, Record, Shards
from lightning_debugkit.checkpointing.store import Store, cause_of, is_full

Write = Callable[[Path], object]


@dataclass(frozen=True)
class SaveOutcome:
    """What became of one save.

    Args:
        draft: The record it was to have.
        record: The record as committed, ``None`` if it failed.
        error: Why it failed.
        dropped: Files that were deleted.
        seconds: Time it took; none if only its record was renewed.
        free: Bytes left on the disk.
    """

    draft: Record
    record: Record | None = None
    error: Exception | None = None
    dropped: tuple[Record, ...] = ()
    seconds: float = 0.0
    free: int = 0


class Keeper:
    """The one hand that writes into a store.

    Args:
        store: The folder.
        beside: Write in a thread beside the training, not only delete there. Deletions stay behind the commit that
            makes them right, so that there are never fewer sound files than when training waits.
    """

    def __init__(self, store: Store, *, beside: bool = False) -> None:
        self.store = store
        self.beside = beside
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(1, "checkpoint")
        store.beside = None if beside else self._pool
        self._at_work: Future[None] | None = None
        self._coming: list[Record] = []
        self._outcomes: deque[SaveOutcome] = deque()

    @property
    def history(self) -> list[Record]:
        """The records there are, and those being written."""
        return [*self.store.history, *self._coming]

    @property
    def is_busy(self) -> bool:
        return self._at_work is not None and not self._at_work.done()

    def due(self, candidate: Record, before: Moment, occasion: Occasion) -> list[KeepRule]:
        """Return the rules that want ``candidate`` written now."""
        known = self.history
        return [rule for rule in self.store.rules if rule.is_due(candidate, before, known, occasion)]

    def may_skip(self, wanting: list[KeepRule], occasion: Occasion) -> bool:
        """Tell whether a save can be left out since one is under way: the next one will be as good."""
        return self.is_busy and occasion is not Occasion.FINAL and all(isinstance(rule, Latest) for rule in wanting)

    def save(self, draft: Record, write: Write, *, in_folder: bool = False, shards: Shards | None = None) -> None:
        """Write a checkpoint; beside the training, wait for the one before it."""
        if self._pool is None or not self.beside:
            self._save(draft, write, in_folder, shards)
            return
        self.wait()
        self._coming.append(draft)
        self._at_work = self._pool.submit(self._save, draft, write, in_folder, shards)

    def amend(self, name: str, metrics: Mapping[str, float], epochs: int) -> None:
        """Add to the record of a file what was learned of the same weights after it was written."""
        self.wait()
        record = next((record for record in self.store.records if record.name == name), None)
        if record is None:
            return
        moment = replace(record.moment, epochs=max(record.moment.epochs, epochs))
        amended = replace(record, moment=moment, metrics={**metrics, **record.metrics})
        if amended == record:
            return
        error = None
        try:
            self.store.amend(amended)
        except Exception as raised:
            error = raised
        self._outcomes.append(SaveOutcome(amended, None if error else amended, error, tuple(self.store.take_dropped())))

    def failed(self, draft: Record, error: Exception) -> None:
        """Take note of a save that did not come as far as the store; make room for the next where there is none."""
        if is_full(error):
            self.store.make_room(draft)
        dropped = tuple(self.store.take_dropped())
        self._outcomes.append(SaveOutcome(draft, error=cause_of(error), dropped=dropped))

    def outcomes(self) -> list[SaveOutcome]:
        """Return what has become of saves since this was asked last."""
        told = []
        while self._outcomes:
            told.append(self._outcomes.popleft())
        return told

    def wait(self) -> None:
        """Wait for the save that is under way, and for deletions."""
        if self._at_work is not None:
            self._at_work.result()
            self._at_work = None
        self.store.wait()

    def close(self) -> None:
        """Wait, and give up the thread; what is saved afterwards is saved at once."""
        self.wait()
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = self.store.beside = None

    def _save(self, draft: Record, write: Write, in_folder: bool, shards: Shards | None) -> None:
        try:
            saved = self.store.save(draft, write, in_folder=in_folder, shards=shards)
        except Exception as error:
            self._outcomes.append(SaveOutcome(draft, error=cause_of(error), dropped=tuple(self.store.take_dropped())))
        else:
            gone = tuple(self.store.take_dropped())
            self._outcomes.append(SaveOutcome(draft, saved.record, None, gone, saved.seconds, saved.free))
        finally:
            self._coming = [record for record in self._coming if record.name != draft.name]
