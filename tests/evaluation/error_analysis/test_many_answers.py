"""Samples of many answers: labels, pixels, tokens and boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from evaluation.erring import Says, YesOrNo, loader, run, table
from sklearn.metrics import confusion_matrix, multilabel_confusion_matrix
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

pytestmark = pytest.mark.filterwarnings("ignore")


def test_labels_of_which_a_sample_has_many(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(4)
    target = (torch.rand(300, 5, generator=generator) < 0.3).long()
    logits = 2.0 * target - 1 + torch.randn(300, 5, generator=generator)
    held = run(tmp_path, loader(logits, target), YesOrNo(), class_names=list("abcde"))
    said = (logits > 0).long()
    assert (held["task"], held["unit"], held["n"]) == ("multilabel", "labels", 1500)
    assert held["accuracy"]["value"] == pytest.approx(float((said == target).float().mean()))
    assert held["accuracy"]["low"] < held["accuracy"]["value"] < held["accuracy"]["high"]
    matrix = table(held)
    for label, (_, extra, missed, both) in enumerate(
        part.flatten().tolist() for part in multilabel_confusion_matrix(target, said)
    ):
        assert matrix[label, label] == both
        assert matrix[label].sum() - both == missed, "each label that is missed stands in its row once"
        assert matrix[:, label].sum() - both == extra
    assert held["classes"] == [*"abcde", "(no label)"]
    assert [row["class"] for row in held["per_class"]] == [0, 1, 2, 3, 4]


def test_missed_and_surplus_labels_are_paired_by_their_scores(tmp_path: Path) -> None:
    scores = torch.tensor([[-0.1, -3.0, 2.0, 1.0, -5.0], [4.0, -1, -1, -1, -1], [4.0, 2.0, -1, -1, -1]])
    target = torch.tensor([[1, 1, 0, 0, 0], [1, 0, 0, 0, 1], [1, 0, 0, 0, 0]])
    held = run(tmp_path, loader(scores, target), YesOrNo())
    assert {tuple(row) for row in held["confusion"]} == {
        (0, 2, 1),  # the nearest miss with the surest surplus
        (1, 3, 1),
        (0, 0, 2),
        (4, 5, 1),  # a miss with nothing in its place
        (5, 1, 1),  # a surplus with nothing missed
    }


def masks(n: int = 12, classes: int = 4, side: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    target = torch.randint(0, classes, (n, side, side), generator=generator)
    logits = torch.randn(n, classes, side, side, generator=generator)
    return logits + 1.5 * F.one_hot(target, classes).permute(0, 3, 1, 2), target


@pytest.mark.parametrize("ignore", [255, -100])
def test_pixels_without_those_to_ignore(ignore: int, tmp_path: Path) -> None:
    class Segments(Says):
        def loss(self, batch: Any) -> Tensor:
            return F.cross_entropy(self(batch[0]), batch[1], ignore_index=ignore)

    logits, target = masks()
    target[:, 0] = ignore
    held = run(tmp_path, loader(logits, target, size=5), Segments())
    counts = target != ignore
    assert (held["task"], held["unit"], held["n"]) == ("segmentation", "pixels", int(counts.sum()))
    assert table(held).tolist() == confusion_matrix(target[counts], logits.argmax(1)[counts]).tolist()
    each = F.cross_entropy(logits, target, ignore_index=ignore, reduction="none").sum((1, 2)) / counts.sum((1, 2))
    assert [row["index"] for row in held["top_losses"]] == each.argsort(descending=True).tolist()
    assert any(note.startswith("The losses of the samples are verified") for note in held["notes"])


def test_masks_of_one_kind(tmp_path: Path) -> None:
    logits = torch.randn(8, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    target = (logits + torch.randn(8, 1, 5, 5, generator=torch.Generator().manual_seed(1)) > 0).float()
    held = run(tmp_path, loader(logits, target, size=4), YesOrNo())
    assert held["task"] == "segmentation"
    assert table(held).tolist() == confusion_matrix(target.flatten(), logits.flatten() > 0).tolist()


def test_tokens_in_one_row_stand_by_their_samples_again(tmp_path: Path) -> None:
    class Language(Says):
        def loss(self, batch: Any) -> Tensor:
            return F.cross_entropy(self(batch[0]).view(-1, 6), batch[1].view(-1))

        def forward(self, x: Tensor) -> Tensor:
            return x.clone()

    generator = torch.Generator().manual_seed(3)
    target = torch.randint(0, 6, (20, 9), generator=generator)
    logits = torch.randn(20, 9, 6, generator=generator) + F.one_hot(target, 6)
    target[3:, 7:] = -100
    held = run(tmp_path, loader(logits, target, size=8), Language())
    counts = target != -100
    assert (held["unit"], held["n"], held["samples_counted"]) == ("tokens", int(counts.sum()), 20)
    assert table(held).tolist() == confusion_matrix(target[counts], logits.argmax(2)[counts]).tolist()


class Boxes(Dataset[Any]):
    """Images with their boxes, as torchvision's detectors take them."""

    def __init__(self) -> None:
        box = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
        self.images = torch.rand(4, 3, 32, 32)
        self.targets = [
            {"boxes": box, "labels": torch.tensor([1, 2])},
            {"boxes": box[:1], "labels": torch.tensor([2])},
            {"boxes": box[:0], "labels": torch.tensor([], dtype=torch.long)},
            {"boxes": box, "labels": torch.tensor([1, 1])},
        ]
        self.found = [
            {"boxes": box, "labels": torch.tensor([1, 3]), "scores": torch.tensor([0.9, 0.8])},
            {"boxes": box[1:], "labels": torch.tensor([2]), "scores": torch.tensor([0.7])},
            {"boxes": box[:1], "labels": torch.tensor([3]), "scores": torch.tensor([0.1])},
            {"boxes": box, "labels": torch.tensor([1, 1]), "scores": torch.tensor([0.95, 0.9])},
        ]

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return self.images[index], {**self.targets[index], "image_id": torch.tensor(index)}


class Detector(nn.Module):
    def __init__(self, found: list[Any]) -> None:
        super().__init__()
        self.found = found
        self.weight = nn.Parameter(torch.zeros(()))
        self.at = 0

    def forward(self, images: Any, targets: Any = None) -> Any:
        self.at += len(images)
        return self.found[self.at - len(images) : self.at]


class Detects(pl.LightningModule):
    """Of the tutorial: the net is called by name, a metric takes what it returns."""

    def __init__(self, found: list[Any]) -> None:
        super().__init__()
        self.model = Detector(found)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, _ = batch
        self.model(images)


def test_boxes_that_are_missed_and_made_up_stand_against_background(tmp_path: Path) -> None:
    data = Boxes()
    source = DataLoader(data, batch_size=2, collate_fn=lambda batch: tuple(zip(*batch, strict=True)))
    held = run(tmp_path, source, Detects(data.found))
    assert (held["task"], held["unit"]) == ("detection", "boxes")
    assert held["classes"] == ["(background)", "1", "2", "3"]
    assert {tuple(row) for row in held["confusion"]} == {
        (1, 1, 3),
        (2, 3, 1),
        (2, 0, 1),
        (0, 2, 1),
    }
    assert held["n"] == 6
    assert held["accuracy"]["value"] == pytest.approx(3 / 6)
    assert [row["index"] for row in held["top_losses"]][:2] == [1, 0]
    assert "0" in held["pictures"]


class Tokens(Says):
    """Says the classes of tokens, the classes in the last dimension."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return F.cross_entropy(self(batch[0]).transpose(1, 2), batch[1])


class Flat(Says):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return F.cross_entropy(self(batch[0]).flatten(0, 1), batch[1].flatten())


@pytest.mark.parametrize("kind", [Tokens, Flat])
def test_as_many_tokens_as_classes_are_told_apart_by_what_the_loss_is_given(kind: Any, tmp_path: Path) -> None:
    target = torch.randint(5, (40, 5), generator=torch.Generator().manual_seed(0))
    held = run(tmp_path, loader(F.one_hot(target, 5).float() * 9, target), kind())
    assert (held["n"], held["accuracy"]["value"]) == (200, 1.0)


def test_tokens_that_are_taken_out_before_the_loss_leave_the_others(tmp_path: Path) -> None:
    class Masked(Says):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
            kept = batch[1] != -100
            return F.cross_entropy(self.net(batch[0])[kept], batch[1][kept])

        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Identity()

    generator = torch.Generator().manual_seed(0)
    target = torch.randint(4, (41, 7), generator=generator)
    target[torch.rand(41, 7, generator=generator) < 0.3] = -100
    logits = torch.randn(41, 7, 4, generator=generator)
    held = run(tmp_path, loader(logits, target, size=8), Masked())
    kept = target != -100
    assert held["n"] == int(kept.sum())
    assert held["accuracy"]["value"] == pytest.approx(float((logits.argmax(-1) == target)[kept].float().mean()))
