"""Boxes are counted whatever a detector or a data set makes of none, of NaN and of the background."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from evaluation.erring import Held, Says, read, run
from monitors.breaking import QUIET
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_debugkit import ErrorAnalysis, read_journal

pytestmark = pytest.mark.filterwarnings("ignore")

BOXES = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
FAR = torch.tensor([[500.0, 500, 510, 510]])


class Pictures(Dataset[Any]):
    """Three boxes of classes 2, 5 and 2 in each of twenty."""

    def __init__(self, target: Held | None = None) -> None:
        self.first = target

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Any:
        given = self.first if self.first and not index else {"boxes": BOXES, "labels": torch.tensor([2, 5, 2])}
        return torch.full((3, 4, 4), float(index)), given


class Finds(Says):
    """Finds what a function makes of the target."""

    def __init__(self, find: Callable[[Any, int], Held]) -> None:
        super().__init__()
        self.find = find

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return 0 * self.offset

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return {"preds": [self.find(target, self.current_epoch) for target in batch[1]], "target": batch[1]}


def pictures(data: Pictures | None = None) -> DataLoader[Any]:
    return DataLoader(data or Pictures(), 5, collate_fn=lambda items: tuple(map(list, zip(*items, strict=True))))


def as_they_are(target: Any, epoch: int) -> Held:
    return {**target, "scores": torch.ones(len(target["labels"]))}


def test_images_whose_scores_are_nan_do_not_count(tmp_path: Path) -> None:
    def find(target: Any, epoch: int) -> Held:
        return {**target, "scores": torch.tensor([0.9, 0.9, torch.nan])[: len(target["labels"])]}

    alone = {"boxes": BOXES[:2], "labels": torch.tensor([2, 5])}
    held = run(tmp_path, pictures(Pictures(alone)), Finds(find))
    assert (held["n"], held["samples_counted"], held["broken"]) == (2, 1, 19)
    assert held["accuracy"]["value"] == 1
    (told,) = [each for each in read_journal(tmp_path / "debugkit").findings if each.rule == "nonfinite-scores"]
    assert told.message.startswith("in validation, the scores of 19 of 20 samples")


@pytest.mark.parametrize("none", [torch.tensor([]), torch.zeros(0, 4)])
@pytest.mark.parametrize("side", ["target", "found"])
def test_no_boxes_may_have_any_shape(none: Tensor, side: str, tmp_path: Path) -> None:
    nothing = {"boxes": none, "labels": torch.tensor([], dtype=torch.long)}
    found = {"boxes": BOXES, "labels": torch.tensor([2, 5, 2])}

    def find(target: Any, epoch: int) -> Held:
        own = found if side == "target" else nothing
        return as_they_are(own, epoch)

    held = run(tmp_path, pictures(Pictures(nothing if side == "target" else None)), Finds(find))
    assert held["n"] == 60
    assert held["accuracy"]["value"] == (pytest.approx(57 / 60) if side == "target" else 0)


def test_images_that_are_all_alike_have_an_interval(tmp_path: Path) -> None:
    """One box of three is wrong in each."""

    def find(target: Any, epoch: int) -> Held:
        return as_they_are({**target, "labels": torch.tensor([2, 5, 5])}, epoch)

    accuracy = run(tmp_path, pictures(), Finds(find))["accuracy"]
    assert accuracy["value"] == pytest.approx(2 / 3)
    assert 0 < accuracy["low"] < 2 / 3 < accuracy["high"] < 1


def test_the_background_is_the_same_in_every_epoch(tmp_path: Path) -> None:
    """Two more classes than before are seen in the second: the number of none moves."""

    def find(target: Any, epoch: int) -> Held:
        labels = torch.tensor([0, 5, 6 if epoch == 0 else 8])
        return as_they_are({"boxes": torch.cat([BOXES[:2], FAR]), "labels": labels}, epoch)

    trainer = pl.Trainer(default_root_dir=tmp_path, callbacks=[ErrorAnalysis()], max_epochs=2, **QUIET)
    trainer.fit(Finds(find), pictures(), pictures())
    held = read(tmp_path)
    assert held["classes"][-1] == "(background)"
    named = [
        sorted(
            (held["classes"][target], held["classes"][predicted], count) for target, predicted, count in row["pairs"]
        )
        for row in held["history"]
    ]
    same = [("2", "(background)", 20), ("2", "0", 20)]
    assert named == [sorted([("(background)", made_up, 20), *same]) for made_up in ("6", "8")]


class Named(Pictures):
    classes = ("cat", "dog", "cow", "owl", "fox")


@pytest.mark.parametrize("is_given", [True, False])
def test_names_begin_with_class_one_where_class_zero_is_the_background(is_given: bool, tmp_path: Path) -> None:
    """Classes 2 and 5, as torchvision counts: the second and the fifth name."""
    names = {"class_names": Named.classes} if is_given else {}
    data = Pictures() if is_given else Named()
    held = run(tmp_path, pictures(data), Finds(as_they_are), **names)
    assert held["classes"] == ["(background)", "cat", "dog", "cow", "owl", "fox"]
    assert not any("class_names" in note for note in held["notes"])
