"""What a report is built of: sections that know how to fill themselves, and the parts they yield.

A new section is one new file in ``report/sections/`` with a ``SECTION``; nothing else changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_debugkit.core.finding import Finding
from lightning_debugkit.report.finding_order import Folded
from lightning_debugkit.report.number_formats import cut
from lightning_debugkit.report.summary import Summary

if TYPE_CHECKING:
    import matplotlib.figure

_LONGEST_LINE = 140
FIGURES = "figures"  # the report's own folder in the run folder


@dataclass(frozen=True)
class Paragraph:
    """A few sentences; ``is_problem`` if they tell of something that could not be shown."""

    text: str
    is_problem: bool = False


@dataclass(frozen=True)
class Heading:
    """What the parts below it, within a section, have in common."""

    text: str


@dataclass(frozen=True)
class Code:
    """Lines to copy."""

    text: str
    before: str = ""


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    is_code: bool = False
    is_marked: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under a header; the first column names the row."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def table_of(caption: str, header: Iterable[str], rows: Iterable[Iterable[Cell | str]]) -> Table:
    """Return a table whose rows may hold plain text for cells."""
    whole = (tuple(Cell(cell) if isinstance(cell, str) else cell for cell in row) for row in rows)
    return Table(caption, tuple(header), tuple(whole))


@dataclass(frozen=True)
class Drawing:
    """A figure still to be drawn."""

    name: str  # file name without its ending, unlike any other in the report
    title: str
    alt: str  # what there is to see in it, for those who cannot
    # returns the figure, made with the object API of matplotlib: the user's pyplot is not ours
    draw: Callable[[], matplotlib.figure.Figure]
    caption: str = ""  # how to read it


@dataclass(frozen=True)
class Figure:
    """A drawn figure, as SVG in the colours of a light page."""

    name: str
    title: str
    alt: str
    svg: str
    caption: str = ""

    @property
    def path(self) -> str:
        return f"{FIGURES}/{self.name}.svg"


@dataclass(frozen=True)
class SamplePart:
    """One sample of a gallery."""

    lines: tuple[str, ...]  # what to say of it; the first is set bold
    image: bytes = b""  # a small PNG; empty if the sample is no picture
    path: str = ""  # where the picture lies in the run folder; under `figures/` the report itself writes it
    text: str = ""  # the sample itself as text, where it is no picture


@dataclass(frozen=True)
class Gallery:
    """Samples side by side."""

    title: str
    samples: tuple[SamplePart, ...]
    caption: str = ""


@dataclass(frozen=True)
class Details:
    """Parts that stay folded until the reader asks for them."""

    title: str
    parts: tuple[Part | Drawing, ...]


Part = Paragraph | Heading | Code | Table | Figure | Gallery | Details


def _all(_finding: Finding) -> bool:
    return True


@dataclass(frozen=True)
class Section:
    """A capability's place in the report."""

    title: str
    order: int  # sections stand by this number, smaller first
    # yields what to show, from the summary and the run folder; nothing if there is nothing
    parts: Callable[[Summary, Path], Iterable[Part | Drawing]]
    key: str = ""  # findings whose `section` this is are referred to under the heading
    claims: Callable[[Finding], bool] = _all  # which of them, if not all
    is_small: bool = False  # reference matter that is set small
    # shown whether or not something is wrong; what is not, is folded unless it claims a warning or an error
    is_open: bool = False
    has_headline: bool = False  # its first paragraph stands under the verdict


@dataclass(frozen=True)
class Chapter:
    """A section filled in for one run: ready for Markdown and HTML."""

    title: str
    parts: tuple[Part, ...]
    findings: tuple[Folded, ...] = ()
    is_small: bool = False
    is_open: bool = True
    headline: str = ""

    @property
    def is_line(self) -> bool:
        """It has but a sentence to say, and needs no place of its own."""
        alone = self.parts[0] if len(self.parts) == 1 else None
        return isinstance(alone, Paragraph) and not alone.is_problem and not self.findings

    @property
    def line(self) -> str:
        """What there is to see in it, in one line."""
        first = next((part for part in self.parts if isinstance(part, Paragraph | Figure | Details)), None)
        if isinstance(first, Paragraph):
            return first.text if self.is_line else _first_sentence(first.text)
        return _first_sentence(first.alt) if isinstance(first, Figure) else ""

    @property
    def below(self) -> tuple[Part, ...]:
        """The parts without what ``line`` has said of the first one."""
        first, *rest = self.parts or (None,)
        if self.is_open or not isinstance(first, Paragraph) or not first.text.startswith(self.line):
            return self.parts
        left = replace(first, text=first.text.removeprefix(self.line).strip())
        return (left, *rest) if left.text else tuple(rest)

    @property
    def figures(self) -> tuple[Figure, ...]:
        return tuple(part for part in unfolded(self.parts) if isinstance(part, Figure))

    @property
    def pictures(self) -> tuple[SamplePart, ...]:
        """The samples whose pictures are the report's own files."""
        galleries = (part for part in unfolded(self.parts) if isinstance(part, Gallery))
        samples = (sample for gallery in galleries for sample in gallery.samples)
        return tuple(sample for sample in samples if sample.image and sample.path.startswith(f"{FIGURES}/"))


def _first_sentence(text: str) -> str:
    """Return the first sentence, cut if it is long.

    >>> _first_sentence("Adam: 22 steps (1.5 s), none clipped; norms are exact.")
    'Adam: 22 steps (1.5 s), none clipped.'
    """
    first = re.split(r"(?<=[.;])\s", text, maxsplit=1)[0]
    return cut(f"{first[:-1]}." if first.endswith(";") else first, _LONGEST_LINE)


def unfolded(parts: Iterable[Part | Drawing]) -> Iterator[Part | Drawing]:
    """Yield the parts, those that are folded included."""
    for part in parts:
        yield from unfolded(part.parts) if isinstance(part, Details) else (part,)
