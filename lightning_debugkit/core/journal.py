"""The run's memory: append-only strict-JSON lines, one file a rank, merged when read."""

from __future__ import annotations

import heapq
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning_debugkit.core.finding import Finding

VERSION = 1
Event = dict[str, Any]
_NAME = re.compile(r"journal-(\d+)\.jsonl")


def strict(value: Any) -> Any:
    """Return ``value`` as plain JSON types; non-finite numbers become ``"nan"``, ``"inf"``, ``"-inf"``.

    Example:
        >>> strict({"norm": float("-inf"), "shape": (2, 3)})
        {'norm': '-inf', 'shape': [2, 3]}
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if getattr(value, "ndim", None) == 0:  # a number of numpy or torch
        return strict(value.item())
    return [strict(item) for item in value] if isinstance(value, Iterable) else str(value)


def encode(event: Mapping[str, Any]) -> bytes:
    """Return ``event`` as one line of strict JSON, newline included."""
    text = json.dumps(strict({"v": VERSION, **event}), allow_nan=False, ensure_ascii=False)
    # A lone surrogate (a file name that is not UTF-8, say) cannot be encoded: it is kept as an escape.
    return text.encode("utf-8", "backslashreplace") + b"\n"


class Journal:
    """Append events to ``journal-<rank>.jsonl`` in a run folder.

    No handle is held: the object pickles, and a killed process leaves whole lines.

    Args:
        folder: The run folder; it must exist when the first event is written.
        rank: Process that writes.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.folder = Path(folder)
        self.rank = rank

    @property
    def path(self) -> Path:
        return self.folder / f"journal-{self.rank}.jsonl"

    def append(self, event: Mapping[str, Any]) -> None:
        """Write ``event`` as one whole line, or leave the file as it was and raise ``OSError``."""
        line = encode(event)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                line = b"\n" + line  # a process killed here before us left a torn line: close it
            written = 0
            try:
                while written < len(line):
                    written += os.write(handle, line[written:])
            except OSError:
                os.ftruncate(handle, size)
                raise
        finally:
            os.close(handle)


class Events(list[Event]):
    """The events of a run in order, with its findings at hand."""

    def of_kind(self, kind: str) -> list[Event]:
        """Return the events of one kind: ``run``, ``finding``, ``measure``, ``artifact`` or ``end``."""
        return [event for event in self if event["kind"] == kind]

    @property
    def findings(self) -> list[Finding]:
        """The findings in order; one that does not keep the contract is passed over."""
        found = []
        for event in self.of_kind("finding"):
            try:
                found.append(Finding.from_event(event))
            except ValueError:
                continue
        return found


def read_journal(path: str | os.PathLike[str]) -> Events:
    """Return the events of a run, all ranks merged by step.

    Torn or foreign lines are passed over; events of a newer version are kept as they are.

    Args:
        path: A run folder, or one ``journal-<rank>.jsonl`` in it.

    Raises:
        FileNotFoundError: There is no journal at ``path``.
    """
    path = Path(path)
    files = [path] if path.is_file() else sorted(path.glob("journal-*.jsonl"), key=_rank)
    files = [file for file in files if path.is_file() or _NAME.fullmatch(file.name)]
    if not files:
        raise FileNotFoundError(f"read_journal needs a run folder with a journal-<rank>.jsonl, got {str(path)!r}.")
    streams = (_keyed(file, _rank(file)) for file in files)
    return Events(event for _, event in heapq.merge(*streams, key=lambda keyed: keyed[0]))


def _keyed(file: Path, rank: int) -> Iterator[tuple[tuple[int, int], Event]]:
    """Give each event the highest step seen so far in its file, so that merging keeps the file's own order."""
    step = -1
    for event in _lines(file):
        where = event.get("where")
        at = where.get("step", step) if isinstance(where, dict) else event.get("step", step)
        step = max(step, at) if isinstance(at, int) else step
        yield (step, rank), event


def _lines(file: Path) -> Iterator[Event]:
    with file.open("rb") as handle:
        for line in handle:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "v" in event and isinstance(event.get("kind"), str):
                yield event


def _rank(file: Path) -> int:
    match = _NAME.fullmatch(file.name)
    return int(match[1]) if match else 0
