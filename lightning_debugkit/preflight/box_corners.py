"""Boxes of the batch that the program reads as two corners, and that are no corners."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from lightning_debugkit.core.finding import Finding, Where
from lightning_debugkit.core.tensor_notes import TensorNotes
from lightning_debugkit.data.boxes import DEGENERATE_BOX
from lightning_debugkit.preflight.origins import Origin, Origins
from lightning_debugkit.replay.source_lines import SourceLine

GREATER, LESSER = {"max", "maximum"}, {"min", "minimum"}
TURNED = 0.25  # of the boxes of a batch: fewer may be slips
FEWEST = 4
READ = (
    "of {boxes} boxes of the batch, {count} have a second corner before their first one, though the overlap at {place} "
    "reads them as (x1, y1, x2, y2)"
)
CONVERT = "They may be (x, y, width, height): convert them with torchvision.ops.box_convert before they are compared."


@dataclass(frozen=True)
class Read:
    """Boxes that were read as corners."""

    boxes: int
    turned: int
    place: SourceLine


@dataclass
class Corners:
    """Watch for the overlap of boxes: the greater of two first corners, and the lesser of two second ones."""

    read: list[Read] = field(default_factory=list)
    _firsts: TensorNotes[bool] = field(default_factory=TensorNotes)

    def follow(self, name: str, args: Sequence[Any], origins: Origins, place: Callable[[], SourceLine]) -> None:
        """Take note of a call of torch, before it is made."""
        parts = [part for part in args[:2] if isinstance(part, Tensor) and part.is_floating_point()]
        if len(parts) != 2:
            return
        for part, other in (parts, parts[::-1]):
            boxes, column = _columns(part)
            if boxes is None or origins.of(boxes) != Origin.BATCH or Origin.NETWORK not in origins.of(other):
                continue
            if name in GREATER and column == 0:
                self._firsts[boxes] = True
            elif name in LESSER and column == 2 and self._firsts.get(boxes):
                self._firsts[boxes] = False
                rows = boxes.detach().reshape(-1, 4)
                turned = int((rows[:, 2:] < rows[:, :2]).any(1).sum())
                self.read.append(Read(len(rows), turned, place()))


def judge(reads: Sequence[Read], where: Where) -> Iterator[Finding]:
    """Yield each line that reads as corners what is none."""
    rule = replace(DEGENERATE_BOX, says=READ)
    for read in {read.place.source: read for read in reads if read.turned > TURNED * read.boxes}.values():
        if read.turned >= FEWEST:
            yield rule.found(
                where.at(read.place.module or ""), boxes=read.boxes, count=read.turned, place=read.place.short,
                source=read.place.source, remedy=CONVERT,
            )  # fmt: skip


def _columns(part: Tensor) -> tuple[Tensor | None, int]:
    """Return the boxes ``(..., 4)`` that a tensor is a view of some columns of, and the first of these."""
    whole = part._base
    if whole is None or whole.ndim < 2 or whole.shape[-1] != 4 or not whole.is_contiguous():
        return None, 0
    return whole, int(part.storage_offset() - whole.storage_offset()) % 4
