"""Boxes of detection targets: of no size, outside their picture, or in another form than the detector reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.data.containers import items_of

NAMES = frozenset({"boxes", "bboxes", "bbox", "gt_boxes", "gt_bboxes"})
# More than a tenth with corners the wrong way round are no slips: they are written as (x, y, width, height).
OTHER_FORM = 0.1
# Of numbers in no order a quarter would be such corners: this many boxes, all of them so, are written as corners.
ENOUGH = 20
RESIZED = frozenset({"orig_size", "scale", "scale_factor", "ratio_pad"})  # a target with boxes of another size names it
TOGETHER = 0.5  # least correlation between both corners, on each axis

DEGENERATE_BOX = Rule(
    "degenerate-box",
    Severity.WARNING,
    "of {boxes} boxes in the {split} batches that were looked at {fault}",
    "{remedy}",
    section="data",
    cost="once",
)


@dataclass(frozen=True)
class Boxes:
    """Boxes of one target."""

    corners: Tensor  # (k, 4) as (x1, y1, x2, y2)
    form: str = ""  # how they are written, `""` if nothing says so and corners are supposed
    size: tuple[int, int] | None = None  # height and width of the picture, `None` if it is not known
    is_sure: bool = True  # the target says by what it is that these are corners; else the numbers of all targets must

    def __len__(self) -> int:
        return len(self.corners)

    @property
    def outside(self) -> int:
        """How many have their middle outside the picture."""
        if self.size is None:
            return 0
        middle = (self.corners[:, :2] + self.corners[:, 2:]) / 2
        return int(((middle < 0) | (middle > middle.new_tensor(self.size[::-1]))).any(1).sum())


def boxes_of(batch: Any) -> Iterator[Boxes]:
    """Yield the boxes of targets as torchvision's detectors take them, a mapping a sample with ``boxes``, or as COCO's.

    Those of a mapping without ``labels`` or of a record, under any usual name, and fractions of a picture, are corners
    if their numbers say so; COCO's annotations, a list a sample of mappings with ``bbox``, and the boxes of
    torchvision's own class have a form of their own.
    """
    if isinstance(batch, list | tuple):
        if batch and all(isinstance(item, Mapping) and "bbox" in item and "category_id" in item for item in batch):
            yield from _of_annotations(batch)
            return
        sizes = _sizes(batch)
        for item in batch:
            for which, one in enumerate(boxes_of(item)):
                is_known = one.size is None and isinstance(item, list | tuple) and len(item) == len(sizes)
                yield replace(one, size=sizes[which]) if is_known and _is_one_each(item, len(sizes)) else one
    elif not isinstance(batch, Tensor) and (found := _of_target(batch)) is not None:
        yield found


def judge(boxes: list[Boxes], split: str, where: Where) -> Iterator[Finding]:
    """Yield that some boxes have no size, or lie outside their pictures."""
    unsure = [each.corners for each in boxes if not each.is_sure]
    if unsure and not _are_corners(torch.cat(unsure)):
        boxes = [each for each in boxes if each.is_sure]
    # Boxes of validation may be those of the picture before it was resized, for a metric to read.
    total, outside = sum(map(len, boxes)), sum(each.outside for each in boxes if each.form or split == "training")
    wrong = sum(int((each.corners[:, 2:] <= each.corners[:, :2]).any(1).sum()) for each in boxes)
    turned = sum(int((each.corners[:, 2:] < each.corners[:, :2]).any(1).sum()) for each in boxes if not each.form)
    if not wrong and not outside:
        return
    faults, remedies = [], []
    if wrong:
        form = next((each.form for each in boxes if each.form), "")
        faults.append(f"{wrong} have no width or no height as {form or '(x1, y1, x2, y2)'}")
        remedies.append(_remedy(wrong, turned, total))
    if outside and not turned:
        faults.append(f"{outside} have their middle outside the picture")
        remedies.append("Crop, turn and resize boxes together with their picture, and drop those that are cut away.")
    yield DEGENERATE_BOX.found(
        where, count=max(wrong, outside), boxes=total, split=split, fault=" and ".join(faults),
        remedy=" ".join(remedies),
    )  # fmt: skip


def _remedy(wrong: int, turned: int, total: int) -> str:
    if turned > OTHER_FORM * total:
        return "They may be (x, y, width, height): convert them with torchvision.ops.box_convert."
    if not turned and wrong > OTHER_FORM * total:
        return (
            "Round the first corner down and the second up, or keep fractions of a pixel: rounding has flattened them."
        )
    return "Drop these boxes in the dataset: they turn losses of logarithms and ratios into infinity."


def _of_target(target: Any) -> Boxes | None:
    held_by = {name.lstrip("."): item for name, item in items_of(target) or ()}
    name, boxes = next(((name, held_by[name]) for name in held_by if name in NAMES), ("", None))
    if not isinstance(boxes, Tensor) or boxes.ndim not in (2, 3) or boxes.shape[-1] != 4:
        return None
    form = str(getattr(boxes, "format", "")).rpartition(".")[2].upper()
    held = _filled(boxes.detach().as_subclass(Tensor))
    size = getattr(boxes, "canvas_size", None)
    if form in ("XYXY", "XYWH", "CXCYWH"):
        return Boxes(_corners(held, form), form, None if size is None else (int(size[0]), int(size[1])))
    if form:
        return None
    # Fractions of the picture are as often written with their middle (DETR): torchvision's detectors take pixels.
    is_fraction = len(held) > 0 and bool(((held >= 0) & (held <= 1)).all())
    is_sure = isinstance(target, Mapping) and name == "boxes" and "labels" in held_by and not is_fraction
    return Boxes(held, is_sure=is_sure)


def _filled(boxes: Tensor) -> Tensor:
    """Return boxes as ``(k, 4)``; of a batch ``(n, k, 4)`` without the rows of one number that fill it up."""
    rows = boxes.reshape(-1, 4)
    return rows if boxes.ndim == 2 else rows[(rows != rows[:, :1]).any(1)]


def _of_annotations(annotations: Sequence[Mapping[str, Any]]) -> Iterator[Boxes]:
    """Yield the boxes that COCO writes as (x, y, width, height)."""
    found = [torch.as_tensor(each["bbox"], dtype=torch.float64) for each in annotations]
    if all(each.shape == (4,) for each in found):
        yield Boxes(_corners(torch.stack(found), "XYWH"), "XYWH")


def _corners(boxes: Tensor, form: str) -> Tensor:
    first, second = boxes[:, :2], boxes[:, 2:]
    if form == "XYWH":
        return torch.cat([first, first + second], 1)
    return torch.cat([first - second / 2, first + second / 2], 1) if form == "CXCYWH" else boxes


def _sizes(batch: Sequence[Any]) -> list[tuple[int, int]]:
    """Return height and width of each picture of a batch, empty if there are none: a tensor, or a list of them."""
    for part in batch:
        if isinstance(part, Tensor) and part.ndim == 4:
            return [(part.shape[2], part.shape[3])] * len(part)
        if isinstance(part, list | tuple) and part and all(isinstance(e, Tensor) and e.ndim == 3 for e in part):
            return [(each.shape[1], each.shape[2]) for each in part]
    return []


def _is_one_each(targets: Sequence[Any], count: int) -> bool:
    """Tell whether each target of a batch has boxes of its own, and they are pixels of the picture as it is."""
    found = [_of_target(each) for each in targets if isinstance(each, Mapping) and not RESIZED.intersection(each)]
    return all(each is not None and each.is_sure for each in found) and len(found) == count


def _are_corners(boxes: Tensor) -> bool:
    """Tell whether boxes are (x1, y1, x2, y2), by their own numbers."""
    first, second = boxes[:, :2].float(), boxes[:, 2:].float()
    is_ordered = bool((second >= first).all()) and len(boxes) >= ENOUGH
    # What begins further right ends further right; of (x, y, width, height) it is rather narrower.
    return is_ordered and all(
        float(torch.corrcoef(torch.stack([first[:, at], second[:, at]]))[0, 1]) > TOGETHER for at in (0, 1)
    )
