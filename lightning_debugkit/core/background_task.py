"""Do once, beside the first steps, what takes seconds and child processes."""

from __future__ import annotations

import threading
from collections.abc import Callable

from lightning_debugkit.core.call_later import call_later


class BackgroundTask:
    """What is done once: in a thread after a while, or at once when somebody needs it.

    Args:
        do: What is done; it lets no exception out.
        seconds: After which it is begun, unless it is dropped before.
    """

    def __init__(self, do: Callable[[], None], seconds: float) -> None:
        self._do = do
        self._lock = threading.Lock()
        self._done = threading.Event()
        self.is_begun = False
        self._call = call_later(seconds, self.now)

    def now(self) -> None:
        """Return when it is done."""
        with self._lock:
            is_first, self.is_begun = not self.is_begun, True
        if not is_first:
            self._done.wait()
            return
        try:
            self._do()
        finally:
            self._done.set()

    def drop(self) -> None:
        """Do not begin it unasked any more."""
        self._call.cancel()
