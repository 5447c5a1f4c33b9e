"""What is odd about data, loaders and limits is counted as it is, or told."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from evaluation.erring import Held, Says, loader, random_answers, run
from evaluation.error_analysis.test_detection import BOXES, Finds, as_they_are
from monitors.breaking import QUIET
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_debugkit import ErrorAnalysis, read_journal
from lightning_debugkit.evaluation.error_analysis.collected_answers import AnswerCollector
from lightning_debugkit.evaluation.error_analysis.confusion_history import ConfusionHistory
from lightning_debugkit.evaluation.error_analysis.sample_pictures import picture_of
from lightning_debugkit.evaluation.error_analysis.slice_columns import columns_of
from lightning_debugkit.evaluation.error_analysis.task import task_of
from lightning_debugkit.evaluation.predictions.readings import Reading
from lightning_debugkit.stats.sample_records import Records

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("no_process_left")
def test_ranks_share_what_is_remembered(tmp_path: Path) -> None:
    logits, target = random_answers(100, 3)
    held = run(tmp_path, loader(logits, target), trainer={"strategy": "ddp_fork", "devices": 2}, max_samples=10)
    assert held["n"] == 100
    assert any(note.startswith("The first 10 of 100 samples are remembered") for note in held["notes"])


def test_probabilities_of_no_more_samples_are_kept_than_asked_for() -> None:
    logits, target = random_answers(120, 3)
    found = Reading(logits, target, ("", ""))
    gathering = AnswerCollector(task_of(found), [], most=10)
    gathering.add(found, torch.arange(120), {})
    assert len(Records.of(gathering.payload()["records"])) == 10


def test_scores_keep_their_digits_after_a_batch_of_fewer(tmp_path: Path) -> None:
    """At 100 numbers of bfloat16 are half a unit apart, and those of the second batch a tenth."""

    class Casts(Says):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            scores = batch[0] if batch_idx else batch[0].bfloat16()
            return {"logits": scores, "target": batch[1]}

    target = torch.arange(32) % 3
    logits = torch.nn.functional.one_hot(target, 3) * torch.where(torch.arange(32) < 16, 5.0, 0.1)[:, None] + 100
    assert run(tmp_path, loader(logits, target), Casts())["accuracy"]["value"] == 1


def test_a_loader_that_is_not_there_is_told(tmp_path: Path) -> None:
    data = loader(*random_answers(30, 3))
    held = run(tmp_path / "one", data, loaders=[0, 7])
    assert held["n"] == 30
    assert "There is no loader 7: 1 are there, from 0 on." in held["notes"]
    assert not any(
        "There is no loader" in note for note in run(tmp_path / "two", [data, data], loaders=[0, 1])["notes"]
    )


def test_a_sample_that_cannot_be_read_again_costs_no_other(tmp_path: Path) -> None:
    class Torn(Dataset[Any]):
        """Every tenth sample can be read once."""

        def __init__(self) -> None:
            self.pairs = list(zip(*random_answers(30, 3), strict=True))
            self.read: set[int] = set()

        def __len__(self) -> int:
            return 30

        def __getitem__(self, index: int) -> Any:
            if index in self.read and index % 10 == 0:
                raise OSError("torn")
            self.read.add(index)
            return self.pairs[index]

    held = run(tmp_path, DataLoader(Torn(), batch_size=10))
    asked = {row["index"] for row in held["top_losses"]}
    assert asked & {0, 10, 20}
    assert {int(index) for index in held["samples"]} >= asked - {0, 10, 20}
    assert "Samples could not be drawn again: OSError: torn." in held["notes"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [1, 3, 4])
def test_boxes_as_many_as_channels_leave_images_their_names(channels: int, size: int, tmp_path: Path) -> None:
    class Pictures(Dataset[Any]):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> Any:
            return torch.full((channels, 4, 4), float(index)), {
                "boxes": BOXES,
                "labels": torch.tensor([1, 2, 1 + index % 2]),
            }

    def find(target: Any, epoch: int) -> Held:
        return as_they_are({"boxes": BOXES, "labels": torch.tensor([1, 2, 2])}, epoch)

    data = DataLoader(Pictures(), size, collate_fn=lambda items: tuple(map(list, zip(*items, strict=True))))
    held = run(tmp_path, data, Finds(find))
    assert held["samples_counted"] == 8
    wrong = [row["index"] for row in held["top_losses"] if row["loss"] > 0]
    assert sorted(wrong) == [0, 2, 4, 6]


def test_what_a_strategy_does_with_loaders_stays_the_user_s_own(tmp_path: Path) -> None:
    trainer = pl.Trainer(
        default_root_dir=tmp_path, callbacks=[ErrorAnalysis(training_dynamics=True)], max_epochs=1, **QUIET
    )
    met = []

    def own(dataloader: Any) -> Any:
        met.append(dataloader)
        return dataloader

    trainer.strategy.process_dataloader = own
    data = loader(*random_answers(30, 3))
    trainer.fit(Says(), data, data)
    assert met
    assert trainer.strategy.process_dataloader is own


def test_a_picture_called_img_has_light_and_is_drawn() -> None:
    batch = {"img": torch.rand(5, 3, 8, 8), "label": torch.arange(5)}
    assert columns_of(batch, None, 5, None, ()).keys() == {"brightness", "contrast"}
    assert picture_of({"img": torch.rand(3, 8, 8), "label": 1}) is not None


@pytest.mark.parametrize("side", ["right", "left"])
def test_texts_have_a_length_whatever_the_side_of_the_padding(side: str) -> None:
    tokens = torch.tensor([[5, 6, 0, 0], [7, 8, 9, 0], [4, 4, 4, 4]])
    tokens = tokens if side == "right" else tokens.flip(1)
    assert columns_of((tokens, torch.arange(3)), None, 3, None, ())["length"].tolist() == [2, 3, 4]


def test_a_table_of_whole_numbers_has_no_length() -> None:
    rows = torch.tensor([[1, 0, 3], [0, 2, 0]])
    assert torch.as_tensor(columns_of((rows, torch.arange(2)), None, 2, None, ())["length"]).isnan().all()


def test_classes_of_a_tensor_are_called_by_their_numbers(tmp_path: Path) -> None:
    module = Says()
    module.config = SimpleNamespace(classes=torch.tensor([3, 5, 8]))
    assert run(tmp_path, loader(*random_answers(30, 3)), module)["classes"] == ["3", "5", "8"]


@pytest.mark.parametrize("is_there", [True, False])
def test_without_scikit_learn_it_is_told_that_numbers_are_searched_less(
    is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = loader(*random_answers(60, 3), torch.rand(60))
    if not is_there:
        monkeypatch.setitem(sys.modules, "sklearn", None)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    told = [note for note in run(tmp_path, data)["notes"] if "needs scikit-learn" in note]
    assert bool(told) != is_there


def test_a_model_that_is_a_little_too_sure_is_left_in_peace(tmp_path: Path) -> None:
    """It says 80 % and is right in 70: beyond chance, but not twice as many mistakes as it claims."""
    target = torch.zeros(4000, dtype=torch.long)
    right: Tensor = torch.arange(4000) % 10 < 7
    logits = torch.tensor([0.8, 0.2]).log().repeat(4000, 1)
    logits[~right] = logits[~right].flip(1)
    flips = torch.arange(4000) % 2 == 1  # both classes
    logits[flips], target[flips] = logits[flips].flip(1), 1
    run(tmp_path, loader(logits, target))
    assert "overconfident" not in [each.rule for each in read_journal(tmp_path / "debugkit").findings]


@pytest.mark.parametrize(("last", "is_settled"), [(0.9, False), (0.71, True)])
def test_a_model_whose_accuracy_rises_has_not_stopped_to_learn(last: float, is_settled: bool) -> None:
    history = ConfusionHistory()
    accuracies = [0.3, 0.5, 0.7, 0.7, 0.7 + (last - 0.7) / 2, last]
    history.load_state_dict(
        [
            {"epoch": at, "step": at, "n": 2000, "accuracy": accuracy, "pairs": [], "unpredicted": []}
            for at, accuracy in enumerate(accuracies)
        ]
    )
    assert history.is_settled == is_settled
