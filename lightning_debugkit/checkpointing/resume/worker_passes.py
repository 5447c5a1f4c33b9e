"""Whether a stream in persistent workers begins anew with each epoch: told by what its passes gave.

Such a worker keeps its copy of the stream from one epoch to the next, where nobody can read how far it is. A resumed
run has new workers, with the stream as it was made.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch.utils.data import DataLoader

from lightning_debugkit.checkpointing.resume import inexact_causes
from lightning_debugkit.checkpointing.resume.fingerprints import fingerprint
from lightning_debugkit.checkpointing.resume.inexact_causes import InexactCause
from lightning_debugkit.data.loaders import has_persistent_workers


@dataclass
class WorkerPasses:
    """Fingerprints of the passes since the workers began; plain, to be saved and taken up again.

    >>> passes = WorkerPasses()
    >>> for index, batch in enumerate([7, 8, 7, 9]):
    ...     passes.add(batch, index % 2)
    >>> passes.alike is None, passes.over()["alike"]
    (True, False)
    """

    first: int | None = None  # first batch of the first pass; `None` if it is not known
    whole: int | None = None  # all batches of the first pass, once it is over
    alike: bool | None = None  # whether each whole pass gave what the first did; `None` as long as there is one alone
    given: int = 0  # batches of all passes
    total: int = 0  # batches of the pass under way

    def add(self, batch: int | None, index: int) -> None:
        """Add the fingerprint of the batch of this index in its epoch."""
        if index == 0:
            self._close()
            self.first = self.first if self.given else batch
        self.first = None if batch is None else self.first
        self.total = zlib.crc32(repr(batch).encode(), self.total)
        self.given += 1

    def over(self) -> dict[str, int | bool | None]:
        """Return the state between epochs."""
        closed = replace(self)
        closed._close()
        return asdict(closed)

    def take_up(self, saved: Mapping[str, Any] | None) -> None:
        """Go on from what was saved of the fetches within an epoch."""
        vars(self).update((saved or {}).get("passes") or {})

    def _close(self) -> None:
        if self.given and self.whole is None:
            self.whole = self.total
        elif self.given:
            self.alike = self.alike is not False and self.total == self.whole
        self.total = 0


def start_workers(loaders: Iterable[Any]) -> None:
    """Start the persistent workers that are not there yet; they draw a seed when they do."""
    for loader in loaders:
        if has_persistent_workers(loader) and loader._iterator is None:
            iter(loader)


def ask_worker(causes: list[InexactCause], saved: Mapping[str, Any], loaders: Sequence[Any]) -> list[InexactCause]:
    """Return the causes, once a new worker of each loader has given the last batch of the epoch that is over again.

    Where it is another, it was drawn in the worker.
    """
    fetches = saved.get("fetches") or {}
    used = fetches.get("parts") or [fetches.get("print")]
    if inexact_causes.WORKERS not in causes or not len(used) == len(loaders) == len(saved["loaders"]):
        return causes
    asked = [
        (loader, state["last"], given)
        for loader, state, given in zip(loaders, saved["loaders"], used, strict=True)
        if state["workers"] == "kept" and "last" in state and given is not None
    ]
    try:
        is_drawn = any(
            fingerprint(next(iter(_once(loader, last)))) not in (None, given) for loader, last, given in asked
        )
    except Exception:  # another loader than that of the saved run, or a worker that ends
        return causes
    return [inexact_causes.DRAWN_IN_WORKERS if is_drawn and c is inexact_causes.WORKERS else c for c in causes]


def _once(loader: DataLoader[Any], indices: list[Any]) -> DataLoader[Any]:
    """Return a loader of one batch: what is drawn and counted for it stays in a worker, which ends with it."""
    return DataLoader(
        loader.dataset,
        batch_sampler=[indices],
        num_workers=1,
        collate_fn=loader.collate_fn,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=torch.Generator().manual_seed(0),
    )


def begin_workers(combined: Any, saved: Mapping[str, Any] | None) -> Iterator[InexactCause]:
    """Let streams begin in new workers, where Lightning's first iterator has not moved them, and tell what is lost.

    These have another seed than those of the saved run: a first batch that is the same was not drawn.
    """
    passes = (saved or {}).get("passes") or asdict(WorkerPasses())
    if passes["alike"]:
        return
    combined.reset()
    firsts = [fingerprint(next(iter(combined))[0])]
    if firsts[0] is None or passes["first"] is None:
        yield inexact_causes.WORKERS
        return
    if firsts[0] != passes["first"]:
        yield inexact_causes.DRAWN_IN_WORKERS
        return
    if passes["alike"] is None:
        firsts.append(fingerprint(next(iter(combined))[0]))
    if firsts[0] != firsts[-1] or passes["alike"] is False:
        combined.reset()
        yield inexact_causes.IN_WORKERS.filled(batches=passes["given"])
