"""Who called torch, and what that call says in the user's text."""

from __future__ import annotations

import linecache
import re
import sys
from itertools import islice
from types import FrameType

# Another mode of ours stands between where two of them hear one step.
_CALLED = (
    *("lightning_debugkit.core.", "lightning_debugkit.preflight."),
    *("torch.overrides", "torch.nn.functional", "torch._tensor"),
)


def calling_frame() -> FrameType | None:
    """Return the frame that called torch."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith(_CALLED):
        frame = frame.f_back
    return frame


def is_by_default(frame: FrameType | None) -> bool:
    """Tell whether dropout is on because nobody said otherwise.

    Torch has filled in the argument by the time we hear of the call, so its text is read: who writes training=True in
    evaluation means it, as Monte Carlo dropout does. Modules of torch pass their own mode.
    """
    if frame is None or frame.f_globals.get("__name__", "").partition(".")[0] == "torch":
        return False
    text = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    if hasattr(frame.f_code, "co_positions"):  # Python 3.11: the call alone, all of its lines
        first, last, start, end = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None))
        if first and last and start is not None and end is not None:
            lines = [linecache.getline(frame.f_code.co_filename, line) for line in range(first, last + 1)]
            lines[-1] = lines[-1].encode()[:end].decode(errors="ignore")
            text = "".join(lines).encode()[start:].decode(errors="ignore")
    return bool(text) and not re.search(r"\btrain|,\s*True\b", text)
