"""Call functions later, beside the steps. One thread waits for all of them: to start one for each costs short fits."""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable


class ScheduledCall:
    """A call that waits for its time; it runs in a thread of its own."""

    def __init__(self, do: Callable[[], None]) -> None:
        self._do: Callable[[], None] | None = do

    @property
    def waits(self) -> bool:
        """Neither begun nor cancelled."""
        return self._do is not None

    def cancel(self) -> None:
        """Do not begin it any more, and let go of what it holds; may be called twice."""
        self._do = None

    def begin(self) -> None:
        """Start it, unless it was cancelled."""
        do, self._do = self._do, None
        if do is not None:
            threading.Thread(target=do, daemon=True).start()


class _Scheduler:
    """The calls of this process that wait, and the thread that waits for them as long as there are any."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._calls: list[tuple[float, int, ScheduledCall]] = []  # a heap, by time
        self._order = itertools.count()

    def add(self, seconds: float, call: ScheduledCall) -> None:
        with self._changed:
            entry = (time.monotonic() + seconds, next(self._order), call)
            heapq.heappush(self._calls, entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._wait, name="debugkit-later", daemon=True)
                self._thread.start()
            elif self._calls[0] is entry:
                self._changed.notify()

    def waiting(self) -> list[ScheduledCall]:
        with self._changed:
            return [call for _, _, call in self._calls if call.waits]

    def _wait(self) -> None:
        with self._changed:
            while self._calls:
                due, _, call = self._calls[0]
                left = due - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                else:
                    heapq.heappop(self._calls)
                    call.begin()
            self._thread = None


_scheduler = _Scheduler()


def call_later(seconds: float, do: Callable[[], None]) -> ScheduledCall:
    """Call ``do`` in a thread of its own after so many seconds, unless it is cancelled before; it must not raise."""
    global _scheduler
    if _scheduler.process != os.getpid():  # forked: the thread that waits stayed behind
        _scheduler = _Scheduler()
    call = ScheduledCall(do)
    _scheduler.add(seconds, call)
    return call


def waiting_calls() -> list[ScheduledCall]:
    """Return the calls of this process that are neither begun nor cancelled."""
    return _scheduler.waiting()
