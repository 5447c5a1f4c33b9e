"""Let nothing be heard of what one thread prints, warns of and logs; other threads go on as they were."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from typing import Any
from unittest import mock


class _OfOthers:
    """A stream that takes what all threads but the present one write."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._muted = stream, threading.get_ident()

    def write(self, text: str) -> int:
        return len(text) if threading.get_ident() == self._muted else self._stream.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Mute prints, log records and warnings of this thread; warnings are those of the process."""
    muted, handle = threading.get_ident(), logging.Logger.handle

    def handle_of_others(logger: logging.Logger, record: logging.LogRecord) -> None:
        if threading.get_ident() != muted:
            handle(logger, record)

    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(mock.patch.object(logging.Logger, "handle", handle_of_others))
        for name in ("stdout", "stderr"):
            if (stream := getattr(sys, name)) is not None:
                stack.enter_context(mock.patch.object(sys, name, _OfOthers(stream)))
        yield
