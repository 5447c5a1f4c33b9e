"""Boxes of detection targets: of no size, or in another form than the detector reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule

# More than a tenth with corners the wrong way round are no slips: they are written as (x, y, width, height).
OTHER_FORM = 0.1

DEGENERATE_BOX = Rule(
    "degenerate-box",
    Severity.WARNING,
    "{count} of {boxes} boxes in the {split} batches that were looked at have no width or no height as "
    "(x1, y1, x2, y2)",
    "{remedy}",
    section="data",
    cost="once",
)


def boxes_of(batch: Any) -> Iterator[Tensor]:
    """Yield the boxes ``(k, 4)`` of targets as torchvision's detectors take them: a mapping a sample with ``boxes``."""
    if isinstance(batch, Mapping):
        boxes = batch.get("boxes")
        if isinstance(boxes, Tensor) and boxes.ndim == 2 and boxes.shape[1] == 4 and "labels" in batch:
            form = str(getattr(boxes, "format", "XYXY")).rpartition(".")[2]
            if form == "XYXY":
                yield boxes.detach()
        return
    if isinstance(batch, list | tuple):
        for item in batch:
            yield from boxes_of(item)


def judge(boxes: list[Tensor], split: str, where: Where) -> Iterator[Finding]:
    """Yield that some boxes have no size."""
    total = sum(map(len, boxes))
    wrong = sum(int(((each[:, 2] <= each[:, 0]) | (each[:, 3] <= each[:, 1])).sum()) for each in boxes if len(each))
    if not wrong:
        return
    is_other = wrong > OTHER_FORM * total
    remedy = (
        "They may be (x, y, width, height): convert them with torchvision.ops.box_convert."
        if is_other
        else "Drop these boxes in the dataset: they turn losses of logarithms and ratios into infinity."
    )
    yield DEGENERATE_BOX.found(where, count=wrong, boxes=total, split=split, remedy=remedy)
