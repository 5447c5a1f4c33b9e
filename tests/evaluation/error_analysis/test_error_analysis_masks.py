"""What a step leaves out of its loss by a mask of its own is neither right nor wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from monitors.breaking import QUIET
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import ErrorAnalysis

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]


class Masked(pl.LightningModule):
    """Its scores are what it is given."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.no_weights = torch.nn.Linear(1, 1)

    def forward(self, scores: Tensor) -> Tensor:
        return scores + 0 * self.no_weights.weight.sum()

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        z = self(x) if "forward" in self.how else x * 1.0
        known = (y != 255) & (y >= 0)
        target = torch.where(known, y, 0)
        if "weight" in self.how:
            weight = known * (2.0 if "other" in self.how else 1.0)
            if "focal" in self.how:  # what is answered well enough weighs nothing: none of them is unknown
                weight = ((z.sigmoid() - y).abs() > 5e-4).float() * 0.5
            total = F.binary_cross_entropy_with_logits(z, target, weight, reduction="sum")
            loss = total / weight.sum()
            return {"loss": loss, "logits": z, "target": target} if "returned" in self.how else loss
        if y.is_floating_point():
            losses = F.binary_cross_entropy_with_logits(z, target, reduction="none")
        else:
            losses = F.cross_entropy(z, target, reduction="none")
        if "einsum" in self.how:
            loss = torch.einsum("a,a->", losses.flatten(), known.flatten().float()) / known.sum()
        else:
            loss = (losses * known).sum() / known.sum()
        return {"loss": loss, "logits": z, "target": target} if "returned" in self.how else loss


def pixels() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    scores = torch.randn(24, 4, 6, 6, generator=draw)
    target = (scores + torch.randn(24, 4, 6, 6, generator=draw)).argmax(1)
    # The first batch knows them all.
    target[8:][torch.rand(16, 6, 6, generator=draw) < 0.3] = 255
    return scores, target


def labels() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(2)
    scores = torch.randn(64, 5, generator=draw)
    target = ((scores + torch.randn(64, 5, generator=draw)) > 0).float()
    target[torch.rand(64, 5, generator=draw) < 0.3] = -1
    return scores, target


def validated(folder: Path, how: str, data: tuple[Tensor, Tensor]) -> dict[str, Any] | None:
    trainer = pl.Trainer(default_root_dir=folder, callbacks=[ErrorAnalysis()], **QUIET)
    trainer.validate(Masked(how), DataLoader(TensorDataset(*data), 8), verbose=False)
    file = folder / "debugkit" / "errors.json"
    return json.loads(file.read_text()) if file.exists() else None


@pytest.mark.parametrize("how", ["loss", "forward", "returned", "returned by forward"])
@pytest.mark.parametrize("data", [pixels, labels])
def test_labels_that_are_masked_by_hand_are_not_counted(how: str, data: Any, tmp_path: Path) -> None:
    scores, target = data()
    held = validated(tmp_path, how, (scores, target))
    known = (target != 255) & (target >= 0)
    answers = scores.argmax(1) if data is pixels else (scores > 0).float()
    assert held is not None
    assert held["n"] == int(known.sum())
    assert held["accuracy"]["value"] == pytest.approx(float((answers == target)[known].float().mean()))
    assert "Answers that the step leaves out of its loss by a mask are not counted." in held["notes"]
    assert any(note.startswith("The losses of the samples are verified") for note in held["notes"])


def test_where_a_mask_cannot_be_followed_nothing_is_counted_and_that_is_said(tmp_path: Path, caplog: Any) -> None:
    assert validated(tmp_path, "einsum", labels()) is None
    assert "which answers count is not known" in caplog.text


def test_what_cannot_be_followed_but_leaves_out_nothing_is_counted(tmp_path: Path) -> None:
    """The same arithmetic over labels that are all known: the loss is the mean of the samples'."""
    scores, target = labels()
    held = validated(tmp_path, "einsum", (scores, target.clamp(min=0)))
    assert held is not None
    assert held["n"] == target.numel()


@pytest.mark.parametrize("how", ["weight", "other weight", "weight returned"])
def test_labels_that_the_loss_is_told_to_weigh_nothing_are_not_counted(how: str, tmp_path: Path) -> None:
    scores, target = labels()
    held = validated(tmp_path, how, (scores, target))
    known = target >= 0
    assert held is not None
    assert held["n"] == int(known.sum())
    assert held["accuracy"]["value"] == pytest.approx(float(((scores > 0).float() == target)[known].float().mean()))
    assert "Answers that the step leaves out of its loss by a mask are not counted." in held["notes"]


def test_answers_that_weigh_nothing_because_they_are_easy_are_counted(tmp_path: Path) -> None:
    scores, target = labels()
    scores[0] = torch.where(target[0].clamp(min=0) > 0, 9.0, -9.0)
    held = validated(tmp_path, "focal weight", (scores, target.clamp(min=0)))
    assert held is not None
    assert held["n"] == target.numel()
