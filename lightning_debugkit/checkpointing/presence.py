"""Whether others that are still at work save into the same folder."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from pathlib import Path

from lightning_debugkit.core.atomic_files import HAS_LOCKS, share

_present: weakref.WeakSet[Presence] = weakref.WeakSet()


class Presence:
    """Shows to others that this process works in a folder, until it leaves or ends, and sees whether others do.

    It is a share of the folder's lock; a child that is forked has no part in it. Where there are no locks, nobody is
    seen.
    """

    def __init__(self, folder: Path) -> None:
        self.has_company = False
        self.leave: Callable[[], object] = bool
        if not HAS_LOCKS:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY)
        except OSError:  # the first save tells it
            return
        self.leave = weakref.finalize(self, os.close, handle)
        self.has_company = not share(handle)
        _present.add(self)


def _leave_in_child() -> None:
    for each in list(_present):
        each.leave()


if HAS_LOCKS:
    os.register_at_fork(after_in_child=_leave_in_child)
