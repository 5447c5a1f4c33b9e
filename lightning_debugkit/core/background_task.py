"""Do once, beside the first steps, what takes seconds and child processes."""

from __future__ import annotations

import threading
from collections.abc import Callable


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
        self._timer = threading.Timer(seconds, self.now)
        self._timer.daemon = True
        self._timer.start()

    def now(self) -> None:
        """Return when it is done."""
        with self._lock:
            is_first, self.is_begun = not self.is_begun, True
        if not is_first:
            self._done.wait()
            return
        self._timer.cancel()
        try:
            self._do()
        finally:
            self._done.set()

    def drop(self) -> None:
        """Do not begin it unasked any more."""
        self._timer.cancel()
