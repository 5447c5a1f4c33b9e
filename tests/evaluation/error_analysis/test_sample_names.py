"""No sample has the name of another, whatever a collate function makes of their order."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from evaluation.erring import Says, random_answers, read, run
from monitors.breaking import QUIET
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from lightning_debugkit import ErrorAnalysis

pytestmark = pytest.mark.filterwarnings("ignore")

Items = list[Any]
LOGITS, TARGET = random_answers(200, 5, seed=3)


class Sentences(Dataset[Any]):
    """Of each sample the scores, the class and the words, of which each has another number."""

    def __init__(self, n: int = 200) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        return LOGITS[index], TARGET[index], torch.arange(1, 2 + (index * 7) % 13)


def padded(items: Items) -> Any:
    scores, targets, words = zip(*items, strict=True)
    return [torch.stack(scores), torch.stack(targets), torch.nn.utils.rnn.pad_sequence(words, batch_first=True)]


def longest_first(items: Items) -> Any:
    """As `pack_padded_sequence` wants it."""
    return padded(sorted(items, key=lambda item: -len(item[2])))


def drawn_anew(items: Items) -> Any:
    scores, targets, words = padded(items)
    return [scores + torch.rand(()), targets, words]


def wrong_names(folder: Path) -> list[str]:
    with (folder / "debugkit" / "misclassified.csv").open() as file:
        return [row["index"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("collate", [None, padded, drawn_anew])
def test_a_collate_function_that_keeps_the_order_costs_no_name(collate: Any, tmp_path: Path) -> None:
    data = Sentences() if collate else torch.utils.data.TensorDataset(LOGITS, TARGET)
    held = run(tmp_path, DataLoader(data, 20, collate_fn=collate))
    wrong = (LOGITS.argmax(1) != TARGET).nonzero()[:, 0].tolist()
    assert sorted(map(int, wrong_names(tmp_path))) == wrong
    assert not any("is not known" in note for note in held["notes"])


def test_a_collate_function_that_sorts_leaves_samples_without_a_name(tmp_path: Path) -> None:
    held = run(tmp_path, DataLoader(Sentences(), 20, collate_fn=longest_first))
    assert set(wrong_names(tmp_path)) == {""}
    rows = [*held["top_losses"], *held["label_issues"], *held["confident_mistakes"]]
    assert rows
    assert {row["index"] for row in rows} == {-1}
    assert not held["samples"]
    assert not held["pictures"]
    note = "Whether longest_first() keeps the samples in their order is not known: drawn again, they are others."
    assert note in held["notes"]
    assert held["n"] == 200


def test_a_collate_function_that_cannot_do_with_one_sample_names_none(tmp_path: Path) -> None:
    def of_many(items: Items) -> Any:
        assert len(items) > 1
        return padded(items)

    held = run(tmp_path, DataLoader(Sentences(), 20, collate_fn=of_many))
    assert set(wrong_names(tmp_path)) == {""}
    assert any("could not be drawn again (AssertionError" in note for note in held["notes"])


def test_one_class_alone_tells_nothing_of_the_order(tmp_path: Path) -> None:
    """The scores are drawn anew each time, and the targets are all the same: any order would look like that."""

    class OfOne(Sentences):
        def __getitem__(self, index: int) -> Any:
            return LOGITS[index], torch.zeros((), dtype=torch.long)

    def shuffled(items: Items) -> Any:
        scores, targets = default_collate([items[at] for at in torch.randperm(len(items)).tolist()])
        return [scores + torch.rand(()), targets]

    run(tmp_path, DataLoader(OfOne(), 20, collate_fn=shuffled))
    assert set(wrong_names(tmp_path)) == {""}


def own_index(shift: int) -> tuple[Dataset[Any], Callable[[Items], Any]]:
    class Indexed(Sentences):
        def __getitem__(self, index: int) -> Any:
            return (*super().__getitem__(index), index)

    def sorted_with_index(items: Items) -> Any:
        items = sorted(items, key=lambda item: -len(item[2]))
        scores, targets, words = padded([item[:3] for item in items])
        return {"x": scores, "label": targets, "words": words, "index": torch.tensor([i[3] for i in items]) + shift}

    return Indexed(), sorted_with_index


class OfKeys(Says):
    def loss(self, batch: Any) -> Tensor:
        return torch.nn.functional.cross_entropy(self(batch["x"]), batch["label"])


@pytest.mark.parametrize("shift", [0, 100])
def test_the_index_in_a_sorted_batch_is_the_name(shift: int, tmp_path: Path) -> None:
    data, collate = own_index(shift)
    held = run(tmp_path, DataLoader(data, 20, collate_fn=collate), OfKeys())
    wrong = (LOGITS.argmax(1) != TARGET).nonzero()[:, 0] + shift
    assert sorted(map(int, wrong_names(tmp_path))) == wrong.tolist()
    told = "The index in the batch is no place in the data set: samples are not drawn."
    assert (told in held["notes"]) == bool(shift)


def followed(folder: Path, collate: Any, module: pl.LightningModule, data: Any) -> dict[str, Any]:
    callback = ErrorAnalysis(training_dynamics=True)
    trainer = pl.Trainer(default_root_dir=folder, callbacks=[callback], max_epochs=3, **QUIET)
    loader = DataLoader(data, 20, shuffle=True, collate_fn=collate)
    trainer.fit(module, loader, DataLoader(data, 20, collate_fn=collate))
    return read(folder)


def test_training_samples_that_are_sorted_are_not_followed(tmp_path: Path) -> None:
    held = followed(tmp_path, longest_first, Says(), Sentences())
    assert held["dynamics"] is None
    assert any(note.startswith("Training dynamics are not known: Whether longest_first()") for note in held["notes"])


@pytest.mark.parametrize("is_sorted", [False, True])
def test_training_samples_are_followed_in_their_order_or_by_their_own_index(is_sorted: bool, tmp_path: Path) -> None:
    data, collate = own_index(0) if is_sorted else (Sentences(), padded)
    held = followed(tmp_path, collate, OfKeys() if is_sorted else Says(), data)
    margin = LOGITS[torch.arange(200), TARGET] - LOGITS.scatter(1, TARGET[:, None], -torch.inf).amax(1)
    hardest = [row["index"] for row in held["dynamics"]["hardest"]]
    assert hardest == margin.argsort()[: len(hardest)].tolist()


def test_names_are_given_by_the_last_analysis(tmp_path: Path) -> None:
    """On the way the data set is not read: workers are yet to be made of it."""
    seen: list[set[int]] = []
    read_by_us: list[int] = []

    class Counted(Sentences):
        def __getitem__(self, index: int) -> Any:
            read_by_us.append(index)
            return super().__getitem__(index)

    class Looks(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
            seen.append({row["index"] for row in read(tmp_path)["top_losses"]})
            assert len(read_by_us) == len(seen) * 200 + 40  # and the sanity check's

    data = Counted()
    trainer = pl.Trainer(default_root_dir=tmp_path, callbacks=[ErrorAnalysis(), Looks()], max_epochs=1, **QUIET)
    trainer.fit(Says(), *(DataLoader(each, 20, collate_fn=padded) for each in (Sentences(), data)))
    assert seen == [{-1}]
    assert -1 not in {row["index"] for row in read(tmp_path)["top_losses"]}
