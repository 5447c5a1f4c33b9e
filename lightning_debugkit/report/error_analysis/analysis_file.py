"""An error analysis as it was left in the run folder, read without trust in its shape."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_debugkit.core.name_lists import percent
from lightning_debugkit.report.number_formats import as_int, as_list, as_mapping, as_number, shortened
from lightning_debugkit.report.parts import Table, table_of
from lightning_debugkit.report.summary import Summary

MOST_BYTES = 512 * 2**20
_NOTHING = ("(no label)", "(background)")
_SURE = 0.999
_LONGEST = 60  # letters of a name
_ONE = {"boxes": "box", "classes": "class"}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class AnalysisFile:
    """The contents of ``errors.json``; what is missing or of another type is empty."""

    held: Row
    path: str = "errors.json"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the classes, by their number."""
        return tuple(map(str, as_list(self.held.get("classes"))))

    @cached_property
    def cells(self) -> NDArray[np.int64]:
        """Rows of target, predicted class and count, none of them zero."""
        listed = as_list(self.held.get("confusion"))
        whole = [row for row in listed if isinstance(row, list) and len(row) == 3 and all(map(_is_count, row))]
        cells = np.asarray(whole, dtype=np.int64).reshape(-1, 3)
        return cells[cells[:, 2] > 0]

    @cached_property
    def mistakes(self) -> int:
        """Counts off the diagonal."""
        return int(self.cells[self.cells[:, 0] != self.cells[:, 1], 2].sum())

    @property
    def unit(self) -> str:
        """What was counted: samples, pixels, labels or boxes."""
        return str(self.held.get("unit") or "samples")

    @property
    def noun(self) -> str:
        """One of them."""
        return _ONE.get(self.unit, self.unit.removesuffix("s"))

    @property
    def n(self) -> int:
        """How many were counted."""
        return as_int(self.held.get("n"), int(self.cells[:, 2].sum()))

    def name(self, number: Any) -> str:
        """Return what a class is called."""
        at = as_int(number, -1)
        return shortened(self.names[at] if 0 <= at < len(self.names) else str(number), _LONGEST)

    def is_nothing(self, number: Any) -> bool:
        """Tell whether a class stands for no label or no box."""
        return self.name(number) in _NOTHING

    def share(self, row: Row, key: str, low: str, high: str) -> str:
        """Return a share in words, with its interval where answers are independent.

        Pixels, tokens, labels and boxes of one sample go together: an interval as of independent ones would be too
        narrow.
        """
        return share(row, key, *((low, high) if self.unit == "samples" else ("", "")))

    @property
    def bounded(self) -> str:
        """What to add to the header of such shares."""
        return " (95 %)" if self.unit == "samples" else ""

    def rows(self, key: str) -> list[Row]:
        """Return the entries of a list that are mappings."""
        return [row for row in as_list(self.held.get(key)) if isinstance(row, Mapping) and row]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def finite_number(row: Row, key: str) -> float | None:
    """Return a finite number of a row, ``None`` if it has none under that key."""
    found = as_number(row.get(key))
    return found if found is not None and math.isfinite(found) else None


def known(row: Row, key: str, worded: Callable[[float], str] = str) -> str:
    """Return a finite number of a row in words, empty if it has none under that key."""
    value = finite_number(row, key)
    return "" if value is None else worded(value)


def probability(value: float) -> str:
    """Return a probability of a model in percent; digits beyond its certainty would say nothing.

    >>> probability(0.9999994), probability(0.437), probability(2e-9)
    ('> 99.9 %', '43.7 %', '< 0.1 %')
    """
    return "> 99.9 %" if value > _SURE else "< 0.1 %" if value < 1 - _SURE else percent(value)


def share(row: Row, key: str, low: str, high: str) -> str:
    """Return a share with its interval in words, empty if it is not known.

    >>> share({"value": 0.5, "low": 0.4, "high": 0.6}, "value", "low", "high"), share({}, "value", "low", "high")
    ('50 % (40 to 60)', '')
    """
    value, least, most = finite_number(row, key), finite_number(row, low), finite_number(row, high)
    if value is None:
        return ""
    if least is None or most is None:
        return percent(value)
    return f"{percent(value)} ({percent(least).removesuffix(' %')} to {percent(most).removesuffix(' %')})"


def filled(caption: str, header: Sequence[str], rows: Iterable[Iterable[str]]) -> Table:
    """Return a table without the columns that have nothing in any row."""
    whole = [tuple(row) for row in rows]
    kept = [at for at in range(len(header)) if not at or any(row[at] for row in whole)]
    return table_of(caption, (header[at] for at in kept), ((row[at] for at in kept) for row in whole))


def _told(summary: Summary) -> Iterator[tuple[str, str, str]]:
    """Yield path, stage and title of the analyses; the run's own have no title."""
    for event in summary.artifacts:
        if "error-analysis" in (event.get("what"), event.get("name")) and event.get("path"):
            yield str(event["path"]), str(event.get("stage", "validate")), str(event.get("title", ""))


def own_paths(summary: Summary, stage: str) -> list[str]:
    """Return where the run's own analyses of a stage lie."""
    return [path for path, each, title in _told(summary) if each == stage and not title]


def further(summary: Summary) -> dict[str, str]:
    """Return the titles of analyses beside the run's own, by path: of later passes, of other questions."""
    return {path: title for path, _, title in _told(summary) if title}


def of_stage(summary: Summary, folder: Path, stage: str) -> AnalysisFile | None:
    """Return the run's own analysis of a stage, ``None`` if it left none.

    Raises:
        ValueError: It is no JSON object, too large, or lies outside the run folder.
        OSError: It cannot be read.
    """
    paths = own_paths(summary, stage)
    return read_analysis(folder, paths[-1]) if paths else None


def read_analysis(folder: Path, path: str) -> AnalysisFile:
    """Return an analysis.

    Raises:
        ValueError: It is no JSON object, too large, or lies outside the run folder.
        OSError: It cannot be read.
    """
    file = (folder / path).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise ValueError(f"{path} lies outside the run folder")
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} is too large to show ({file.stat().st_size // 2**20} MiB)")
    held = json.loads(file.read_bytes())
    if not isinstance(held, Mapping):
        raise ValueError(f"{path} holds no error analysis")
    return AnalysisFile(as_mapping(held), path)
