"""An exception of the user's own reaches the user as if nobody had stood between Lightning and the step."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import TracebackType

_PACKAGE = str(Path(__file__).parents[1])
# A local of the functions that only pass a call on; pytest leaves frames out by the same name.
_MARK = "__tracebackhide__"


def leave_out_passing_frames(error: BaseException) -> None:
    """Take the frames of ours that only passed a call on out of the tracebacks of ``error`` and of what led to it.

    A frame of ours that raised, or that is not marked, stays: a fault of the kit must not look like another's.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        current.__traceback__ = _without(current.__traceback__)
        waiting += [current.__cause__, current.__context__]


def _without(traceback: TracebackType | None) -> TracebackType | None:
    kept = [each for each in _links(traceback) if each.tb_next is None or not _passes(each)]
    for one, following in itertools.pairwise(kept):
        one.tb_next = following
    return kept[0] if kept else None


def _links(traceback: TracebackType | None) -> list[TracebackType]:
    found = []
    while traceback is not None:
        found.append(traceback)
        traceback = traceback.tb_next
    return found


def _passes(traceback: TracebackType) -> bool:
    code = traceback.tb_frame.f_code
    return _MARK in code.co_varnames and code.co_filename.startswith(_PACKAGE)
