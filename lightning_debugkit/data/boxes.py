"""Boxes of detection targets: of no size, or in another form than the detector reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule

# More than a tenth with corners the wrong way round are no slips: they are written as (x, y, width, height).
OTHER_FORM = 0.1
# Of numbers in no order a quarter would be such corners: this many boxes, all of them so, are written as corners.
ENOUGH = 20
TOGETHER = 0.5  # least correlation between both corners, on each axis

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
    """Yield the boxes ``(k, 4)`` of targets as torchvision's detectors take them: a mapping a sample with ``boxes``.

    Those of a mapping without ``labels``, one a sample, are yielded where their numbers say that they are corners.
    """
    if isinstance(batch, Mapping):
        boxes = batch.get("boxes")
        if isinstance(boxes, Tensor) and boxes.ndim == 2 and boxes.shape[1] == 4 and _are_corners(boxes, batch):
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
    turned = sum(int((each[:, 2:] < each[:, :2]).any(1).sum()) for each in boxes)
    remedy = "Drop these boxes in the dataset: they turn losses of logarithms and ratios into infinity."
    if turned > OTHER_FORM * total:
        remedy = "They may be (x, y, width, height): convert them with torchvision.ops.box_convert."
    elif not turned and wrong > OTHER_FORM * total:
        remedy = (
            "Round the first corner down and the second up, or keep fractions of a pixel: rounding has flattened them."
        )
    yield DEGENERATE_BOX.found(where, count=wrong, boxes=total, split=split, remedy=remedy)


def _are_corners(boxes: Tensor, target: Mapping[Any, Any]) -> bool:
    """Tell whether boxes are (x1, y1, x2, y2), by what the target is or by their own numbers."""
    if str(getattr(boxes, "format", "XYXY")).rpartition(".")[2] != "XYXY":
        return False
    if "labels" in target:
        return True
    first, second = boxes[:, :2].float(), boxes[:, 2:].float()
    is_ordered = bool((second >= first).all()) and len(boxes) >= ENOUGH
    # What begins further right ends further right; of (x, y, width, height) it is rather narrower.
    return is_ordered and all(
        float(torch.corrcoef(torch.stack([first[:, at], second[:, at]]))[0, 1]) > TOGETHER for at in (0, 1)
    )
