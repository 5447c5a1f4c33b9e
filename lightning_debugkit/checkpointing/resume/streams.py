"""Loaders whose indices are not known: streams, loaders that keep their place themselves, and others than torch's.

Lightning fetches one batch ahead of a loader without a length: at a save, the loader's own state is behind a batch that
was not trained on yet, and its random numbers have been drawn.
"""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from lightning_debugkit.checkpointing.resume.fingerprints import fingerprint
from lightning_debugkit.checkpointing.resume.rng_state import RngState
from lightning_debugkit.checkpointing.resume.worker_passes import WorkerPasses
from lightning_debugkit.core.compat import Trainer
from lightning_debugkit.core.patching import StandIn

# Taking the loaders' states before each batch may take this share of the time, and this many seconds at the start. A
# state that was taken some batches ago serves as well: these are pulled again.
_SHARE, _START = 0.01, 0.05


class Fetches:
    """Notes before each fetch where the loaders are, and what the batch in use holds.

    Args:
        keep: Whether the loaders keep their place themselves.
        draw: Whether they draw random numbers in this process.
    """

    def __init__(self, trainer: Trainer, now: Callable[[], RngState | None], keep: bool, draw: bool) -> None:
        self.trainer, self._now, self.keep, self._draw = trainer, now, keep, draw
        self._places: deque[tuple[int, list[Any]]] = deque(maxlen=3)
        self._first: list[tuple[int, RngState]] = []  # of the epoch
        self._moments: deque[tuple[int, RngState]] = deque(maxlen=2)
        self._again: dict[int, Callable[[], Any]] = {}
        self._prints: deque[tuple[int, int | None]] = deque(maxlen=2)  # of the batch in use, and the one before
        self._parts: deque[tuple[int, list[int | None]]] = deque(maxlen=2)  # of what each of several loaders gave
        self.passes = self._passes_before = WorkerPasses()
        self._offset = self._next = 0
        self._began = time.perf_counter()
        self._spent = 0.0
        self._standing: list[StandIn] = []

    def install(self, guarded: Callable[..., Any]) -> None:
        """Note each fetch of the training from now on; what fails in ours goes through ``guarded``."""
        loop, precision = self.trainer.fit_loop.epoch_loop, self.trainer.precision_plugin
        before, convert = loop._on_before_fetch, precision.convert_input

        def fetching() -> None:
            guarded(self._note)
            before()

        def converted(batch: Any) -> Any:
            if self.trainer.training:
                index, found = loop.batch_progress.current.ready, guarded(fingerprint, batch)
                self._prints.append((index, found))
                self._parts.append((index, guarded(self._of_each, batch) or []))
                self._passes_before = replace(self.passes)
                self.passes.add(found, index)
            return convert(batch)

        self._standing = [
            StandIn(loop, "_on_before_fetch", fetching).stand(),
            StandIn(precision, "convert_input", converted).stand(),
        ]

    def remove(self) -> None:
        """Leave loop and precision as they were; what was noted may still be saved."""
        for each in self._standing:
            each.leave()
        self._standing = []

    def state(self, used: int, places: list[Any], under_way: bool) -> dict[str, Any]:
        """Return what is needed to come here again, behind ``used`` batches of the epoch; the loaders are at these.

        One batch more may be in use: it is run anew.
        """
        passes = self._passes_before if self._prints and self._prints[-1][0] >= used else self.passes
        found = [(at, place) for at, place in self._places if at < used]
        # One used batch more shows that the place is right.
        place = found[-1] if found else next(((at, place) for at, place in self._places if at == used), None)
        return {
            "moments": [[index, moment] for index, moment in dict([*self._first, *self._moments]).items()],
            "print": dict(self._prints).get(used - 1),
            "parts": dict(self._parts).get(used - 1, []),
            "place": place,
            "states": fingerprint(places, whole=True) if self.keep else None,
            "passes": asdict(passes) if under_way else passes.over(),
            "consumed": list(self._consumed),
        }

    def _of_each(self, batch: Any) -> list[int | None]:
        """Return the fingerprint of what each of several loaders gave to a batch; ``None`` for one that is through."""
        combined: Any = self.trainer.fit_loop._combined_loader
        if len(combined.flattened) < 2:
            return []
        parts = combined._spec.flatten_up_to(batch)
        return [None if part is None else fingerprint(part) for part in parts]

    def places(self) -> list[Any]:
        """Return the places that the loaders keep themselves."""
        combined: Any = self.trainer.fit_loop._combined_loader
        return list(combined._state_dicts())

    @property
    def _consumed(self) -> list[bool]:
        """Which of several loaders were begun again in this epoch, so that it ends with the others."""
        combined: Any = self.trainer.fit_loop._combined_loader
        return getattr(getattr(combined, "_iterator", None), "_consumed", [])

    def set_consumed(self, saved: list[bool]) -> None:
        """Let the epoch end with the loaders with which it would have ended."""
        if len(saved) == len(self._consumed):
            self._consumed[:] = saved

    def play(self, again: Mapping[int, Callable[[], Any]], offset: int = 0) -> None:
        """Let the fetches of these batches of the epoch begin at these moments; the next one is ``offset``."""
        self._again, self._offset = dict(again), offset

    def _note(self) -> None:
        fetcher = self.trainer.fit_loop._data_fetcher
        if fetcher is None:
            return
        index = self._offset + fetcher.fetched
        if index in self._again:
            self._again.pop(index)()
        if self._draw and (moment := self._now()) is not None:
            self._first = [(index, moment)] if index == 0 or not self._first else self._first
            self._moments.append((index, moment))
        if self._places and self._places[-1][0] >= index:
            self._places.clear()  # another epoch
        began = time.perf_counter()
        # One of each epoch there must be, however slow it or the machine is: the batches since are pulled again.
        if self.keep and (not self._places or self._spent < _START + _SHARE * (began - self._began)):
            self._places.append((index, copy.deepcopy(self.places())))
            self._spent += time.perf_counter() - began
