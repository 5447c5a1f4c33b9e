"""Which predicted box is which box of the target, so that a detector has a confusion matrix, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

BACKGROUND = -1


@dataclass(frozen=True)
class Matches:
    """Pairs of boxes of one image: those that match, then targets that are missed, then predictions of nothing."""

    target: Tensor  # (pairs,) class of the target, `background` where there is none
    predicted: Tensor  # (pairs,) class predicted, `background` where none is
    predicted_box: Tensor  # (pairs,) row of the predicted box, -1 where there is none


def match_boxes(
    predicted: Mapping[str, Tensor],
    target: Mapping[str, Tensor],
    iou: float = 0.5,
    score: float = 0.5,
    background: int = BACKGROUND,
) -> Matches:
    """Match boxes whatever their class: the surest prediction first, each with the free box that it overlaps most.

    Of boxes that overlap equally one of the predicted class is taken.

    Args:
        predicted: ``boxes``, ``labels`` and ``scores`` of an image, as torchvision's detectors return them.
        target: ``boxes`` and ``labels``, as they are given to them.
        iou: Overlap that a match needs.
        score: Score that a prediction needs to count.
        background: Number that stands for nothing.

    Shapes:
        boxes: (n, 4), left, top, right, bottom; labels, scores: (n,).

    >>> box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    >>> found = {"boxes": box, "labels": torch.tensor([2]), "scores": torch.tensor([0.9])}
    >>> pairs = match_boxes(found, {"boxes": torch.cat([box, box + 50]), "labels": torch.tensor([1, 3])})
    >>> pairs.target, pairs.predicted  # the first is taken for class 2, the other is missed
    (tensor([1, 3]), tensor([ 2, -1]))

    References:
        Lin and others, Microsoft COCO, 2014: the greedy match by score, there within a class.
    """
    labels, own = target["labels"].cpu(), predicted["labels"].cpu()
    scores = predicted["scores"].cpu() if "scores" in predicted else torch.ones(len(own))
    rows = (scores >= score).nonzero().reshape(-1)
    rows = rows[scores[rows].argsort(descending=True, stable=True)]
    overlaps = overlap(predicted["boxes"].cpu()[rows], target["boxes"].cpu())
    is_free = torch.ones(len(labels), dtype=torch.bool)
    pairs: list[tuple[int, int]] = []
    false: list[tuple[int, int]] = []
    for place, row in enumerate(rows.tolist()):
        fits = torch.where(is_free, overlaps[place], -1.0)
        best = float(fits.max()) if len(fits) else -1.0
        if best < iou:
            false.append((-1, row))
            continue
        equal = (fits == best).nonzero().reshape(-1)
        alike = equal[labels[equal] == own[row]]
        box = int((alike if len(alike) else equal)[0])
        is_free[box] = False
        pairs.append((box, row))
    missed = [(box, -1) for box in is_free.nonzero().reshape(-1).tolist()]
    found = pairs + missed + false
    boxes, given = (torch.tensor([pair[side] for pair in found], dtype=torch.int64) for side in (0, 1))
    return Matches(_named(labels, boxes, background), _named(own, given, background), given)


def overlap(boxes: Tensor, others: Tensor) -> Tensor:
    """Return intersection over union of each box with each other; 0 for a box without area.

    Shapes:
        boxes: (n, 4); others: (m, 4); returns (n, m).
    """
    # No boxes are often a tensor without any dimension more.
    boxes, others = boxes.double().reshape(-1, 4), others.double().reshape(-1, 4)
    first = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    last = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = (last - first).clamp(min=0).prod(dim=2)
    union = _area(boxes)[:, None] + _area(others)[None] - shared
    return torch.where(shared > 0, shared / union, 0.0)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)


def _named(labels: Tensor, rows: Tensor, background: int) -> Tensor:
    names = torch.full_like(rows, background)
    known = rows >= 0
    names[known] = labels[rows[known]].to(torch.int64)
    return names
