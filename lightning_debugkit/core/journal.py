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
    event = {"v": VERSION, **event}
    try:
        text = json.dumps(event, allow_nan=False, ensure_ascii=False, default=strict)
    except (TypeError, ValueError):  # a key that is no text, or a number that is not finite
        text = json.dumps(strict(event), allow_nan=False, ensure_ascii=False)
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
        handle = self.opened()
        try:
            write_lines(handle, encode(event), is_new=True)
        finally:
            os.close(handle)

    def opened(self) -> int:
        """Return a handle of the file, to be given back; it is made if there is none."""
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)


def write_lines(handle: int, data: bytes, is_new: bool) -> int:
    """Append whole lines, or leave the file as it was and raise ``OSError``; return how large it is then.

    Args:
        is_new: The handle has just been opened: a process killed before us may have left a torn line, which is closed.
    """
    size = os.fstat(handle).st_size
    if is_new and size and os.pread(handle, 1, size - 1) != b"\n":
        data = b"\n" + data
    written = 0
    try:
        while written < len(data):
            written += os.write(handle, data[written:])
    except OSError:
        os.ftruncate(handle, size)
        raise
    return size + written


class Events(list[Event]):
    """The events of a run in order, with its findings at hand."""

    def of_kind(self, kind: str) -> list[Event]:
        """Return the events of one kind: ``run``, ``finding``, ``measure``, ``artifact`` or ``end``."""
        return [event for event in self if event["kind"] == kind]

    @property
    def findings(self) -> list[Finding]:
        """The findings in order; one that does not keep the contract is passed over."""
        return self._found("finding")

    @property
    def notes(self) -> list[Finding]:
        """What is true of many runs and asks for nothing: a section of the report has it, no list of findings."""
        return self._found("note")

    def _found(self, kind: str) -> list[Finding]:
        found = []
        for event in self.of_kind(kind):
            try:
                found.append(Finding.from_event(event))
            except ValueError:
                continue
        return found


def read_journal(path: str | os.PathLike[str]) -> Events:
    """Return the events of a run, all ranks merged by step.

    Torn or foreign lines are passed over; events of a newer version are kept as they are. What was written as arrays
    comes back as one ``measure`` a point, whatever version of the kit wrote the journal.

    Args:
        path: A run folder, the folder that it lies in if it is the only one there, or a file in it: a
            ``journal-<rank>.jsonl`` is read alone, any other, such as ``report.html``, stands for the run.

    Raises:
        FileNotFoundError: There is no journal at ``path``, or several runs have one.
    """
    streams = (_keyed(_told(_lines(file)), _rank(file)) for file in _files(Path(path)))
    return Events(event for _, event in heapq.merge(*streams, key=lambda keyed: keyed[0]))


def _files(path: Path) -> list[Path]:
    """Return the journals of the one run that ``path`` means."""
    if path.is_file() and (_NAME.fullmatch(path.name) or any(event["kind"] == "run" for event in _lines(path))):
        return [path]
    folder = path.parent if path.is_file() else path
    runs = [home for home in sorted(folder.glob("debugkit*")) if home.is_dir()]
    files = _journals(folder) or (_journals(runs[0]) if len(runs) == 1 else [])
    if not files:
        named = f"; it holds several, such as {str(runs[0])!r}: name one" if runs else ""
        raise FileNotFoundError(
            f"read_journal needs a run folder with a journal-<rank>.jsonl, usually LOG_DIR/debugkit, got {str(path)!r}"
            f"{named}."
        )
    return files


def _journals(folder: Path) -> list[Path]:
    return sorted((file for file in folder.glob("journal-*.jsonl") if _NAME.fullmatch(file.name)), key=_rank)


def told(events: Iterable[Event]) -> Events:
    """Return the events of one journal that was read elsewhere, such as a line of an index, as `read_journal` does."""
    return Events(_told(event for event in events if _is_event(event)))


def _keyed(events: Iterable[Event], rank: int) -> Iterator[tuple[tuple[int, int], Event]]:
    """Give each event the highest step seen so far in its file, so that merging keeps the file's own order."""
    step = -1
    for event in events:
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
            if _is_event(event):
                yield event


def _is_event(event: Any) -> bool:
    return isinstance(event, dict) and "v" in event and isinstance(event.get("kind"), str)


def _told(events: Iterable[Event]) -> list[Event]:
    """Return the events with arrays as single points, in the order of their steps, and late facts in their run."""
    found: list[Event] = []
    points: list[Event] = []
    names: dict[Any, Event] = {}
    run: Event | None = None
    for event in events:
        if event["kind"] == "names":
            names[event.get("id")] = event
        elif event["kind"] == "series":
            points += _points(event, names)
        elif event["kind"] == "facts" and run is not None:
            run.update({key: value for key, value in event.items() if key not in ("v", "kind", "rank")})
        else:
            found += sorted(points, key=lambda point: point["step"])
            found.append(event)
            points = []
            run = event if event["kind"] == "run" else run
    return [*found, *sorted(points, key=lambda point: point["step"])]


def _points(event: Event, tables: Mapping[Any, Event]) -> Iterator[Event]:
    """Yield the points of a line of arrays; none if it is not one that this version writes."""
    steps, values, epochs = event.get("steps"), event.get("values"), event.get("epochs")
    table = tables.get(event.get("names"), {})
    if not (isinstance(steps, list) and isinstance(values, list) and all(type(step) is int for step in steps)):
        return
    if event.get("names") is not None and not table:
        return
    extremes, quantiles = event.get("extremes"), event.get("quantiles")
    for place, (step, value) in enumerate(zip(steps, values, strict=False)):
        epoch = epochs[place] if isinstance(epochs, list) else epochs
        point = {"v": event["v"], "kind": "measure", "epoch": epoch, "step": step, "rank": event.get("rank", 0)}
        if table:
            pairs = zip(table["names"], value, strict=False)
            value = {name: item for name, item in pairs if item != []} | (extremes[place] if extremes else {})
        if quantiles:
            # What is told of the values that are not named: least, quartiles and greatest of each group.
            point |= {"of": table["count"], "quantiles": dict(zip(table["groups"], quantiles[place], strict=False))}
        yield {**point, "name": event.get("name"), "value": value}


def _rank(file: Path) -> int:
    match = _NAME.fullmatch(file.name)
    return int(match[1]) if match else 0
