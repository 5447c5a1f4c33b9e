"""Boxes are read in the form that they say they have; those of no size and those outside the picture are told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_debugkit.core.finding import Where
from lightning_debugkit.data import boxes

HERE = Where(0, 0)
CORNERS = torch.tensor([[4.0, 4, 20, 24], [10, 2, 30, 12], [1, 1, 9, 31]])
PICTURES = [torch.rand(3, 32, 32), torch.rand(3, 32, 40)]


def told(batch: Any) -> list[dict[str, Any]]:
    return [finding.evidence for finding in boxes.judge(list(boxes.boxes_of(batch)), "training", HERE)]


class Formed(Tensor):
    """As torchvision's BoundingBoxes: a tensor with a form and the size of its picture."""

    format: str
    canvas_size: tuple[int, int]

    def __new__(cls, held: Tensor) -> Formed:
        return held.as_subclass(cls)


def formed(held: Tensor, form: str, canvas: tuple[int, int] = (32, 32)) -> Formed:
    made = Formed(held)
    made.format, made.canvas_size = f"BoundingBoxFormat.{form}", canvas
    return made


def written(form: str) -> Tensor:
    first, second = CORNERS[:, :2], CORNERS[:, 2:]
    size = second - first
    return {"XYXY": CORNERS, "XYWH": torch.cat([first, size], 1), "CXCYWH": torch.cat([first + size / 2, size], 1)}[
        form
    ]


@pytest.mark.parametrize("form", ["XYXY", "XYWH", "CXCYWH"])
def test_boxes_that_name_their_form_are_read_in_it(form: str) -> None:
    held = written(form)
    assert told({"boxes": formed(held, form), "labels": torch.ones(3)}) == []
    flat = held.clone()
    flat[0, 2] = held[0, 0] if form == "XYXY" else 0
    [found] = told({"boxes": formed(flat, form)})
    assert (found["count"], found["fault"]) == (1, f"1 have no width or no height as {form}")
    [found] = told({"boxes": formed(held, form, (32, 10))})
    assert found["fault"] == "2 have their middle outside the picture"


def test_annotations_of_coco_are_widths_and_heights() -> None:
    rows = [{"bbox": row.tolist(), "category_id": 3} for row in written("XYWH")]
    assert told((PICTURES, [rows, rows])) == []
    [found] = told((PICTURES, [rows, [*rows, {"bbox": [3, 3, 0, 5], "category_id": 3}]]))
    assert (found["count"], found["boxes"]) == (1, 7)


def test_boxes_are_laid_upon_the_picture_of_their_target() -> None:
    """As after a crop that the boxes did not see; a little beyond the edge is no fault."""
    targets = [{"boxes": CORNERS + torch.tensor([8.0, 0, 12, 0]), "labels": torch.ones(3)} for _ in PICTURES]
    assert told((PICTURES, targets)) == []
    moved = [{"boxes": each["boxes"] + torch.tensor([10.0, 0, 10, 0]), "labels": torch.ones(3)} for each in targets]
    [found] = told((tuple(PICTURES), tuple(moved)))
    resized = [{**each, "orig_size": torch.tensor([64, 80])} for each in moved]
    assert told((PICTURES, resized)) == []
    assert list(boxes.judge(list(boxes.boxes_of((PICTURES, moved))), "validation", HERE)) == []
    # Middles at 32, 40 and 25: beyond 32 in the first picture, not beyond 40 in the second.
    assert (found["count"], found["boxes"]) == (1, 6)


def test_fractions_of_a_picture_with_their_middle_are_as_good_as_any() -> None:
    """As DETR takes them."""
    fractions = written("CXCYWH") / 32
    assert told((PICTURES, [{"boxes": fractions, "labels": torch.ones(3)} for _ in PICTURES])) == []


def test_widths_in_place_of_corners_are_told_once_and_not_as_outside_too() -> None:
    targets = [{"boxes": written("XYWH") + torch.tensor([20.0, 20, 0, 0]), "labels": torch.ones(3)} for _ in PICTURES]
    [found] = told((PICTURES, targets))
    assert "outside" not in found["fault"]
    assert found["remedy"].startswith("They may be (x, y, width, height)")
