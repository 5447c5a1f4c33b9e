"""Write a run's journal at little cost: one open handle, measures gathered for a second, names once, size bounded."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from lightning_debugkit.core.call_later import ScheduledCall, call_later
from lightning_debugkit.core.finding import Where
from lightning_debugkit.core.journal import Event, Journal, encode, write_lines
from lightning_debugkit.core.secrets import secret_values, without_tokens

SECONDS = 1.0  # that a measure may wait: what a killed process can lose
MAX_MEASURE_BYTES = 4_000_000  # bytes of a journal that measures may fill; findings, files and ends come beside
NAMED = 100  # values of a measure that keep their names; the others are told by group
GROUPS = 30
_OFTEN = 200  # points of a series that are kept in any case
_EXTREME = 4  # of the unnamed: so many largest are named in their point
_SHOWN = 200  # entries of a list in a finding's evidence
_PLACE = ("epoch", "step", "rank")
_ABSENT: list[Any] = []  # a value that a point lacks; null is a value


class NamedNumbers(Mapping[str, float]):
    """Numbers of the same names, step after step: of a large model no entry is touched by itself."""

    def __init__(self, names: Sequence[str], numbers: NDArray[np.float64]) -> None:
        self.names = names  # of each
        self.numbers = numbers  # as many, `(n,)`

    def __getitem__(self, name: str) -> float:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _by_name(self) -> dict[str, float]:
        return dict(zip(self.names, self.numbers.tolist(), strict=True))


class JournalWriter:
    """Append events to a journal; all but measures are on disk when the call returns."""

    def __init__(self, journal: Journal, lost: Callable[[OSError], None]) -> None:
        self.journal = journal
        self._lost = lost  # told of an error when what had waited could not be written
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._handle: int | None = None
        self._size = 0
        self._taken: list[tuple[Where, Mapping[str, Any]]] = []  # points as they came: steps must not wait for more
        self._series: dict[str, _Series] = {}
        self._timer: ScheduledCall | None = None
        self._tables = 0

    def append(self, event: Mapping[str, Any]) -> None:
        """Take ``event``; raise ``OSError``, and leave the file as it was, if it cannot be written.

        A process that was forked from the one that writes has a journal of its own, or none.
        """
        if os.getpid() != self._process:
            return
        with self._lock:
            if event["kind"] == "measure" and "value" in event and isinstance(event.get("step"), int):
                self._sort()
                self._take(event)
                self._start()
                return
            # What was measured before stands before; a finding is never lost with the process.
            lines = [
                *self._waiting(final=event["kind"] == "end"),
                encode(without_tokens(_shortened(event), secret_values())),
            ]
            self._write(b"".join(lines))
            if event["kind"] == "end":
                self.close()

    def take(self, where: Where, values: Mapping[str, Any]) -> None:
        """Let a point of each of some series wait to be written."""
        if os.getpid() != self._process:
            return
        with self._lock:
            self._taken.append((where, values))
            self._start()

    def flush(self) -> None:
        """Write what waits."""
        if os.getpid() == self._process:
            with self._lock:
                self._write(b"".join(self._waiting()))

    def close(self) -> None:
        """Write what waits, and give the file back; a later event opens it again."""
        with self._lock:
            self.flush()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None

    def _sort(self) -> None:
        """Give the points that have come to their series."""
        taken, self._taken = self._taken, []
        for where, values in taken:
            place = {"epoch": where.epoch, "step": where.step, "rank": where.rank}
            for name, value in values.items():
                self._take({"kind": "measure", **place, "name": name, "value": value})

    def _take(self, event: Mapping[str, Any]) -> None:
        name = str(event.get("name"))
        series = self._series.get(name)
        if series is None:
            series = self._series[name] = _Series(name)
        series.count += 1
        if not self._has_room(series.count):
            series.last = event  # the last of a series stands for all that were left out
            return
        series.last = None
        series.points.append(event)

    def _start(self) -> None:
        """See to it that what waits is written soon."""
        if self._timer is None:
            self._timer = call_later(SECONDS, self._due)

    def _has_room(self, count: int) -> bool:
        """Tell whether a series may have another point: half of them when half is full, a quarter of them then."""
        left = MAX_MEASURE_BYTES - self._size
        if count <= _OFTEN or 2 * left > MAX_MEASURE_BYTES:
            return True
        return left > 0 and count % 2 ** int(math.log2(MAX_MEASURE_BYTES / left)) == 0

    def _due(self) -> None:
        self._timer = None
        try:
            self.flush()
        except OSError as error:
            self._lost(error)

    def _waiting(self, final: bool = False) -> Iterator[bytes]:
        """Yield the lines of what waits, and let it wait no more."""
        self._sort()
        for series in self._series.values():
            if final and series.last is not None:
                series.points.append(series.last)
                series.last = None
            points, series.points = series.points, []
            yield from (encode(line) for line in self._lines(series, points))

    def _lines(self, series: _Series, points: list[Mapping[str, Any]]) -> Iterator[Event]:
        for alike in _runs(points):
            if not _is_plain(alike[0]):
                yield from map(dict, alike)
                continue
            if isinstance(alike[0]["value"], Mapping):
                keys = list(alike[0]["value"])
                if series.table is None or not series.table.covers(keys):
                    known = [] if series.table is None else series.table.keys
                    series.table = _Table(self._tables, dict.fromkeys([*known, *keys]))
                    self._tables += 1
                    yield series.table.line()
            yield _told(series, alike)

    def _write(self, data: bytes) -> None:
        if not data:
            return
        is_new = self._handle is None
        self._handle = self.journal.opened() if self._handle is None else self._handle
        self._size = write_lines(self._handle, data, is_new)


class _Series:
    """The points of one measure that wait."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.points: list[Mapping[str, Any]] = []
        self.last: Mapping[str, Any] | None = None
        self.table: _Table | None = None


class _Table:
    """The names of a measure's values, written once."""

    def __init__(self, number: int, keys: Iterable[str]) -> None:
        self.id = number
        self.keys = list(keys)
        self._known = frozenset(self.keys)
        count = len(self.keys)
        spread = {round(place * (count - 1) / (NAMED - 1)) for place in range(NAMED)} if count > NAMED else range(count)
        self.named = sorted(spread)
        self.groups = _groups(self.keys) if count > NAMED else {}

    def covers(self, keys: list[str]) -> bool:
        return keys == self.keys or self._known.issuperset(keys)

    def line(self) -> Event:
        told: Event = {"kind": "names", "id": self.id, "names": [self.keys[place] for place in self.named]}
        return {**told, "count": len(self.keys), "groups": list(self.groups)} if self.groups else told

    def row(self, value: Mapping[str, Any]) -> list[Any]:
        """Return the named values in order."""
        if self._is_aligned(value):
            return [_rounded(number) for number in value.numbers[self.named].tolist()]
        return [_rounded(value.get(self.keys[place], _ABSENT)) for place in self.named]

    def _is_aligned(self, value: Mapping[str, Any]) -> TypeGuard[NamedNumbers]:
        return isinstance(value, NamedNumbers) and value.names == self.keys

    def rest(self, value: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return quantiles of each group, and those of the unnamed values that stand out."""
        aligned = value.numbers if self._is_aligned(value) else None
        numbers = aligned if aligned is not None else np.array([_number(value.get(key)) for key in self.keys])
        quantiles = []
        for places in self.groups.values():
            part = numbers[places]
            part = part[np.isfinite(part)]
            cut = np.quantile(part, (0, 0.25, 0.5, 0.75, 1)).tolist() if part.size else []
            quantiles.append([_rounded(each) for each in cut])
        unnamed = np.setdiff1d(np.arange(numbers.size), self.named)
        broken = unnamed[~np.isfinite(numbers[unnamed])][:_EXTREME]
        size = np.nan_to_num(np.abs(numbers[unnamed]), nan=-1.0, posinf=-1.0)
        largest = unnamed[np.argsort(-size, kind="stable")[:_EXTREME]]
        standing_out = [self.keys[at] for at in (*broken, *largest)]
        if aligned is not None:
            return quantiles, {self.keys[at]: _rounded(float(aligned[at])) for at in (*broken, *largest)}
        return quantiles, {key: _rounded(value[key]) for key in standing_out if key in value}


def _told(series: _Series, points: list[Mapping[str, Any]]) -> Event:
    """Return many points of one measure as one event of arrays."""
    first = points[0]
    epochs, steps = [point["epoch"] for point in points], [point["step"] for point in points]
    line: Event = {"kind": "series", "name": series.name, "rank": first["rank"], "steps": steps}
    line["epochs"] = epochs[0] if len(set(epochs)) == 1 else epochs
    table = series.table
    if not isinstance(first["value"], Mapping) or table is None:
        return {**line, "values": [point["value"] for point in points]}
    line |= {"names": table.id, "values": [table.row(point["value"]) for point in points]}
    if table.groups:
        rests = [table.rest(point["value"]) for point in points]
        line |= {"quantiles": [rest[0] for rest in rests], "extremes": [rest[1] for rest in rests]}
    return line


def _runs(points: list[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Yield stretches of points that one line can hold."""
    stretch: list[Mapping[str, Any]] = []
    shape: Any = None
    for point in points:
        value = point["value"]
        names = value.names if isinstance(value, NamedNumbers) else list(value) if isinstance(value, Mapping) else None
        now = (point.get("rank"), names, _is_plain(point))
        if stretch and now != shape:
            yield stretch
            stretch = []
        stretch.append(point)
        shape = now
    if stretch:
        yield stretch


def _is_plain(point: Mapping[str, Any]) -> bool:
    """Tell whether a point is a place and a number, or a mapping of numbers and words."""
    if set(point) != {"kind", "name", "value", *_PLACE}:
        return False
    value = point["value"]
    if isinstance(value, NamedNumbers):
        return len(value) > 0
    if isinstance(value, Mapping):
        return len(value) > 0 and all(map(_is_scalar, value.values())) and all(type(key) is str for key in value)
    return _is_scalar(value)


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, int | float | str)


def _groups(keys: list[str]) -> dict[str, list[int]]:
    """Return the places of names that begin alike: as deep as leaves few enough groups, else neighbours together."""
    found: dict[str, list[int]] = {}
    for depth in range(1, 1 + max(key.count(".") for key in keys)):
        deeper: dict[str, list[int]] = {}
        for place, key in enumerate(keys):
            deeper.setdefault(".".join(key.split(".")[:depth]), []).append(place)
        if len(deeper) > GROUPS:
            break
        found = deeper
    if found:
        return found
    width = math.ceil(len(keys) / GROUPS)
    spans = [list(range(at, min(at + width, len(keys)))) for at in range(0, len(keys), width)]
    return {f"{keys[span[0]]} to {keys[span[-1]]}": span for span in spans}


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _rounded(value: Any) -> Any:
    """Return a number with the digits that single precision has."""
    return float(f"{value:.7g}") if isinstance(value, float) and math.isfinite(value) else value


def _shortened(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``event`` without the tail of long lists: a model of ten thousand parameters is no reason to name each."""
    evidence = event.get("evidence")
    if event["kind"] != "finding" or not isinstance(evidence, Mapping):
        return event
    return {**event, "evidence": {name: _cut(value) for name, value in evidence.items()}}


def _cut(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) <= _SHOWN:
        return value
    return [*value[:_SHOWN], f"and {len(value) - _SHOWN} more"] if isinstance(value[0], str) else list(value[:_SHOWN])
