"""Carry out saves, at once or beside the training, and tell afterwards what became of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from lightning_debugkit.checkpointing.mirror import Mirror
from lightning_debugkit.checkpointing.records import Moment, Record, Shards, history
from lightning_debugkit.checkpointing.retention_rules import KeepRule, Latest, Occasion
from lightning_debugkit.checkpointing.store import Store
from lightning_debugkit.core.atomic_files import is_full, origin_of

Write = Callable[[Path], object]
WAITS = "waits for"


@dataclass(frozen=True)
class SaveOutcome:
    """What became of one save."""

    draft: Record  # the record it was to have
    record: Record | None = None  # the record as committed, `None` if it failed
    error: Exception | None = None
    dropped: tuple[Record, ...] = ()
    seconds: float = 0.0  # time it took; none if only its record was renewed
    free: int = 0  # bytes left on the disk
    away: str = ""  # the URL of an object store that could not be reached: the file waits for it here
    gone: tuple[Record, ...] = ()  # what somebody else has deleted, in the folder or in the store ``away``
    left: int = 0  # files that there are beside those


class Keeper:
    """The one hand that writes into a store, and lets object stores follow.

    Args:
        mirrors: What is kept elsewhere; until it is there, it stays in the folder.
        rules: When to save; those of ``store`` if None.
        beside: Write in a thread beside the training, not only delete there. Deletions stay behind the commit that
            makes them right, so that there are never fewer sound files than when training waits.
    """

    def __init__(
        self,
        store: Store,
        mirrors: Sequence[Mirror] = (),
        rules: Sequence[KeepRule] | None = None,
        *,
        beside: bool = False,
    ) -> None:
        self.store = store
        self.mirrors = tuple(mirrors)
        self.rules = store.rules if rules is None else tuple(rules)
        self.beside = beside
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(1, "checkpoint")
        store.beside = None if beside else self._pool
        store.elsewhere = self._elsewhere
        self._at_work: Future[None] | None = None
        self._coming: list[Record] = []
        self._outcomes: deque[SaveOutcome] = deque()

    def read(self) -> None:
        """Read what is there, here and elsewhere."""
        self.store.read()
        for mirror in self.mirrors:
            mirror.read()

    @property
    def known(self) -> list[Record]:
        """The records that led to here, wherever their files are."""
        if not self.mirrors:
            return self.store.history
        elsewhere = {record.name: record for mirror in self.mirrors for record in mirror.records}
        every = {**elsewhere, **{record.name: record for record in self.store.records}}
        return history(every.values(), self.store.run, self.store.lineage)

    @property
    def history(self) -> list[Record]:
        """The records there are, and those being written, each once."""
        coming = self._coming  # before what is known: beside the training it may be committed between the two
        known = self.known
        names = {record.name for record in known}
        return [*known, *(record for record in coming if record.name not in names)]

    @property
    def reasons(self) -> dict[str, tuple[str, ...]]:
        """Why each file stays, wherever it is."""
        known = self.known
        told = [self.store.reasons, *(mirror.keeps(known, self._pinned) for mirror in self.mirrors)]
        return {
            record.name: tuple(dict.fromkeys(why for reasons in told for why in reasons.get(record.name, ())))
            for record in known
        }

    def place(self, record: Record) -> str:
        """Return where a file is: in the folder, or in an object store."""
        is_here = any(record.name == each.name for each in self.store.records)
        for mirror in self.mirrors:
            if record.name in mirror.there and (mirror.is_only or not is_here):
                return mirror.store.path(record.name)
        return str(self.store.path(record))

    def _elsewhere(self) -> set[str]:
        return {name for mirror in self.mirrors for name in mirror.staying}

    @property
    def _pinned(self) -> dict[str, str]:
        return {name: why for name, why in self.store.pinned.items() if not why.startswith(WAITS)}

    @property
    def is_busy(self) -> bool:
        return self._at_work is not None and not self._at_work.done()

    def forget_gone(self) -> bool:
        """Take note of files that somebody else has deleted; tell whether nothing is left by that."""
        gone = self.store.forget_gone()
        if gone:
            self._outcomes.append(SaveOutcome(gone[-1], gone=tuple(gone), left=len(self.known)))
        return bool(gone) and not self.known

    def due(self, candidate: Record, before: Moment, occasion: Occasion) -> list[KeepRule]:
        """Return the rules that want ``candidate`` written now."""
        known = self.history
        return [rule for rule in self.rules if rule.is_due(candidate, before, known, occasion)]

    def may_skip(self, wanting: list[KeepRule], occasion: Occasion) -> bool:
        """Tell whether a save can be left out since one is under way: the next one will be as good."""
        return self.is_busy and occasion is not Occasion.FINAL and all(isinstance(rule, Latest) for rule in wanting)

    def save(
        self,
        draft: Record,
        write: Write,
        *,
        in_folder: bool = False,
        shards: Callable[[], Shards] | None = None,
        after: Callable[[], object] = bool,
    ) -> None:
        """Write a checkpoint; beside the training, wait for the one before it.

        Args:
            draft: Its record, but for size and digest.
            write: Writes it to the path it is given; may be called twice.
            in_folder: Whether it may write a folder.
            shards: Of a folder of shards, waits until all are down, and tells size and CRC-32 of each.
            after: Is called at the end, whatever came of it.
        """
        if self._pool is None or not self.beside:
            self._save(draft, write, in_folder, shards, after)
            return
        self.wait()
        self._coming = [*self._coming, draft]
        self._at_work = self._pool.submit(self._save, draft, write, in_folder, shards, after)

    def amend(self, name: str, metrics: Mapping[str, float], epochs: int) -> None:
        """Add to the record of a file what was learned of the same weights after it was written."""
        self.wait()
        self._release()
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
        self.follow()
        self._outcomes.append(SaveOutcome(amended, None if error else amended, error, tuple(self.store.take_dropped())))

    def failed(self, draft: Record, error: Exception) -> None:
        """Take note of a save that did not come as far as the store; make room for the next where there is none."""
        if is_full(error):
            self.store.make_room(draft)
        dropped = tuple(self.store.take_dropped())
        self._outcomes.append(SaveOutcome(draft, error=origin_of(error), dropped=dropped))

    def outcomes(self) -> list[SaveOutcome]:
        """Return what has become of saves since this was asked last."""
        self._release()
        told = [self._away(mirror, *problem) for mirror in self.mirrors for problem in mirror.problems()]
        while self._outcomes:
            told.append(self._outcomes.popleft())
        told += [SaveOutcome(record, error=origin_of(error)) for record, error in self.store.take_lost()]
        if dropped := self.store.take_dropped():
            told.append(SaveOutcome(dropped[-1], dropped=tuple(dropped)))
        for mirror in self.mirrors:
            if gone := mirror.take_gone():
                told.append(SaveOutcome(gone[-1], gone=tuple(gone), away=mirror.store.url, left=len(self.known)))
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
        for mirror in self.mirrors:
            mirror.close()
        self._release()
        self.store.wait()
        self.forget_gone()
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = self.store.beside = None

    def _save(
        self,
        draft: Record,
        write: Write,
        in_folder: bool,
        shards: Callable[[], Shards] | None,
        after: Callable[[], object],
    ) -> None:
        try:
            self._write(draft, write, in_folder, None if shards is None else shards())
        except Exception as error:
            self.failed(draft, error)
        finally:
            after()
            self._coming = [record for record in self._coming if record.name != draft.name]

    def _write(self, draft: Record, write: Write, in_folder: bool, shards: Shards | None) -> None:
        try:
            self._release()
            self.store.wait()
            self.forget_gone()
            for mirror in self.mirrors:
                if draft.name in mirror.keeps([*self.known, draft], self._pinned):
                    self.store.pinned.setdefault(draft.name, f"{WAITS} {mirror.store.url}")
            saved = self.store.save(draft, write, in_folder=in_folder, shards=shards)
        except Exception as error:
            self._outcomes.append(SaveOutcome(draft, error=origin_of(error), dropped=tuple(self.store.take_dropped())))
        else:
            self.follow()
            gone = tuple(self.store.take_dropped())
            self._outcomes.append(SaveOutcome(draft, saved.record, None, gone, saved.seconds, saved.free))

    def follow(self) -> None:
        """Let object stores become what the rules make of the history."""
        known = self.known
        for mirror in self.mirrors:
            mirror.follow(known, self._pinned, self.store.folder)
            for name in list(mirror.waiting):
                self.store.pinned.setdefault(name, f"{WAITS} {mirror.store.url}")

    def _release(self) -> None:
        """Let go of files that waited to be sent and wait no more."""
        waiting = {name for mirror in self.mirrors for name in mirror.waiting}
        sent = [name for name, why in self.store.pinned.items() if why.startswith(WAITS) and name not in waiting]
        for name in sent:
            del self.store.pinned[name]
        if sent:
            self.store.retain()

    def _away(self, mirror: Mirror, record: Record | None, error: Exception) -> SaveOutcome:
        draft = record or Record("", Moment(max((each.step for each in self.known), default=0)))
        return SaveOutcome(draft, error=error, away=mirror.store.url)
