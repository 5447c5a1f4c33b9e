"""Notes on how the numbers are to be read speak of what was counted, and none says the contrary of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from evaluation.erring import Says, YesOrNo, loader, random_answers, run
from evaluation.error_analysis.test_many_answers import Boxes, Detects
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_debugkit.evaluation.predictions.reader import PredictionsNotFound

pytestmark = pytest.mark.filterwarnings("ignore")


def test_of_boxes_no_cross_entropy_is_told(tmp_path: Path) -> None:
    data = Boxes()
    source = DataLoader(data, batch_size=2, collate_fn=lambda batch: tuple(zip(*batch, strict=True)))
    told = " ".join(run(tmp_path, source, Detects(data.found))["notes"])
    assert "The loss of an image is the number of its wrong boxes" in told
    assert "predictions count from a score of 0.5" in told
    assert "cross entropy" not in told


def test_of_classes_without_scores_no_loss_is_told(tmp_path: Path) -> None:
    class Chooses(Says):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return {"loss": self.loss(batch), "preds": batch[0].argmax(1), "target": batch[1]}

    notes = run(tmp_path, loader(*random_answers(60, 3)), Chooses())["notes"]
    assert [note for note in notes if "loss" in note] == [
        "Predictions are classes without scores: there are no losses, label issues or calibration."
    ]


def test_yes_and_no_have_a_binary_cross_entropy(tmp_path: Path) -> None:
    class Doubled(YesOrNo):
        def loss(self, batch: Any) -> Tensor:
            return 2 * super().loss(batch)

    logits, target = random_answers(60, 2)
    notes = run(tmp_path, loader(logits[:, 1] - logits[:, 0], target), Doubled())["notes"]
    assert any(note.endswith("samples are ranked by plain binary cross entropy.") for note in notes)


class InOneRow(Says):
    """The cells of a sample stand in one row before the loss, the net is called by name."""

    def loss(self, batch: Any) -> Tensor:
        logits = batch[0] + 0 * self.offset
        return F.cross_entropy(logits.movedim(1, -1).reshape(-1, logits.shape[1]), batch[1].reshape(-1))


@pytest.mark.parametrize(("shape", "unit"), [((6, 7), "pixels"), ((4, 6, 7), "pixels"), ((42,), "tokens")])
def test_pixels_in_one_row_are_pixels_if_the_batch_has_a_mask(shape: Any, unit: str, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (20, *shape), generator=generator)
    logits = torch.randn(20, 3, *shape, generator=generator)
    held = run(tmp_path, loader(logits, target, size=8), InOneRow())
    assert (held["unit"], held["n"], held["samples_counted"]) == (unit, target.numel(), 20)
    assert held["accuracy"]["value"] == pytest.approx(float((logits.argmax(1) == target).float().mean()))
    [note] = [note for note in held["notes"] if note.startswith("An answer is")]
    assert note.startswith(f"An answer is a {unit.removesuffix('s')};")


def test_one_source_of_both_is_named_once(tmp_path: Path) -> None:
    class Squares(Says):
        def loss(self, batch: Any) -> Tensor:
            return F.mse_loss(batch[0] + self.offset, batch[0] + 1)

    logits, target = random_answers(60, 3)
    with pytest.raises(PredictionsNotFound, match=r"\(from what mse_loss\(\) was given\); name others"):
        run(tmp_path / "values", loader(logits), Squares())
    notes = run(tmp_path / "classes", loader(logits, target), ByName())["notes"]
    assert "Predictions and targets are from what cross_entropy() was given." in notes


class ByName(Says):
    def loss(self, batch: Any) -> Tensor:
        return F.cross_entropy(batch[0] + self.offset, batch[1])
