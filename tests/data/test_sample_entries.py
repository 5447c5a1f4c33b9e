"""An entry of the data set is named if it is known to be the one, however the batch was put together."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.utilities import CombinedLoader
from monitors.breaking import QUIET
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

from lightning_debugkit import ErrorAnalysis, Finding, GradientAnomalyDetector, TrainingAnomaly
from lightning_debugkit.data.packed_rows import owners

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]

BAD = 37


class Rows(Dataset[Any]):
    """Each row is its own number; entry `BAD` has a NaN. It counts what it is asked, and draws random numbers."""

    def __init__(self, n: int = 64, bad: int = BAD, first: int = 0, noisy: bool = False) -> None:
        self.n, self.bad, self.first, self.noisy = n, bad, first, noisy
        self.asked: list[int] = []
        self.count = 0

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> Any:
        self.asked.append(i)
        self.count += 1
        x = torch.full((4,), float(self.first + i))
        x = x + torch.rand(4) * random.random() * 0.4 if self.noisy else x
        if i == self.bad:
            x[1] = torch.nan
        return x, i % 3


class Unreadable(Rows):
    def __getitem__(self, i: int) -> Any:
        return None if i % 3 == 2 and i != BAD else super().__getitem__(i)


class Numbered(Rows):
    def __getitem__(self, i: int) -> Any:
        x, y = super().__getitem__(i)
        return {"x": x, "y": y, "index": i}


class Sorting(Rows):
    """It fetches many at once, in an order of its own."""

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        return [self[i] for i in sorted(indices)]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        worker = torch.utils.data.get_worker_info()
        start, step = (worker.id, worker.num_workers) if worker else (0, 1)
        return iter([Rows()[i] for i in range(start, 64, step)])


def around(samples: list[Any]) -> Any:
    return default_collate(samples[::-1])


def readable(samples: list[Any]) -> Any:
    return default_collate([sample for sample in samples if sample is not None])


def filtered(samples: list[Any]) -> Any:
    return default_collate([sample for sample in samples if int(sample[1]) != 2])


def by_label(samples: list[Any]) -> Any:
    return default_collate(sorted(samples, key=lambda sample: sample[1]))


def as_list(samples: list[Any]) -> Any:
    return {"x": [x for x, _ in samples], "y": [y for _, y in samples]}


def in_order(samples: list[Any]) -> Any:
    return default_collate(samples)


class Model(pl.LightningModule):
    def __init__(self, pick: Callable[[Any], Any] = lambda batch: batch) -> None:
        super().__init__()
        self.layer, self.pick = torch.nn.Linear(4, 3), pick

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        own = self.pick(batch)
        x, y = (own["x"], own["y"]) if isinstance(own, dict) else own
        x = torch.stack(x) if isinstance(x, list) else x
        return torch.nn.functional.cross_entropy(self.layer(x / 64), torch.as_tensor(y))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 1e-4)


def loader(data: Dataset[Any], collate: Any = None, **options: Any) -> DataLoader[Any]:
    options = options or {"batch_size": 8, "shuffle": True}
    return DataLoader(data, collate_fn=collate, **options)


def pairs(sampler: Any) -> Any:
    """A batch sampler whose batches can be read but once."""
    for one, other in zip(sampler[::2], sampler[1::2], strict=True):
        yield iter([one, other])


class Pairs:
    def __iter__(self) -> Any:
        return pairs(list(range(63, -1, -1)))

    def __len__(self) -> int:
        return 32


def told(folder: Path, train: Any, module: pl.LightningModule | None = None) -> Finding:
    pl.seed_everything(2, verbose=False)
    trainer = pl.Trainer(default_root_dir=folder, callbacks=[GradientAnomalyDetector(bundle=False)], **QUIET)
    with pytest.raises(TrainingAnomaly) as caught:
        trainer.fit(module or Model(), train)
    return caught.value.finding


def often(data: Dataset[Any]) -> DataLoader[Any]:
    weights = torch.ones(64)
    weights[BAD] = 40
    return loader(data, around, batch_size=8, sampler=WeightedRandomSampler(weights.tolist(), 64))


KNOWN: dict[str, Callable[[], Any]] = {
    "shuffled": lambda: loader(Rows()),
    "turned around": lambda: loader(Rows(), around),
    "sorted by its label": lambda: loader(Rows(), by_label),
    "some unreadable": lambda: loader(Unreadable(), readable),
    "some filtered out": lambda: loader(Rows(), filtered),
    "in a list": lambda: loader(Rows(), as_list),
    "fetched at once in another order": lambda: loader(Sorting()),
    "a batch sampler of pairs": lambda: DataLoader(Rows(), batch_sampler=Pairs()),
    "a batch sampler, turned around": lambda: DataLoader(
        Rows(), batch_sampler=BatchSampler(RandomSampler(range(64)), 8, False), collate_fn=around
    ),
    "drawn often": lambda: often(Rows()),
    "two workers": lambda: loader(Rows(), around, batch_size=8, shuffle=True, num_workers=2),
    "noisy, turned around, with its index": lambda: loader(Numbered(noisy=True), around),
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_entry_is_named_that_broke(name: str, tmp_path: Path) -> None:
    finding = told(tmp_path, KNOWN[name]())
    assert set(finding.evidence["dataset_indices"]) == {BAD}
    assert f"entr{'y' if len(finding.evidence['dataset_indices']) == 1 else 'ies'} {BAD}" in finding.advice
    assert "not known" not in finding.evidence.get("note", "")


UNKNOWN: dict[str, tuple[Callable[[], Any], str]] = {
    "noisy, turned around": (lambda: loader(Rows(noisy=True), around), "around() may sort or drop samples"),
    "twins, turned around": (
        lambda: loader(ConcatDataset([Rows(8, 3), Rows(8, 3)]), around, batch_size=16),
        "around() may sort or drop samples",
    ),
    "a stream": (lambda: loader(Stream(), batch_size=8), "it is a stream, without indices"),
    "a stream of two workers": (
        lambda: loader(Stream(), batch_size=8, num_workers=2),
        "it is a stream, without indices",
    ),
    "whole batches": (
        lambda: loader([(torch.full((4, 4), torch.nan), torch.zeros(4).long())], batch_size=None),
        "its items are whole batches",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_no_entry_is_named_that_may_be_another_and_one_note_says_why(name: str, tmp_path: Path) -> None:
    build, why = UNKNOWN[name]
    finding = told(tmp_path, build())
    assert finding.evidence["dataset_indices"] == []
    if finding.evidence["samples"]:
        assert finding.evidence["note"].count("not known") == 1
        assert why in finding.evidence["note"]
    assert finding.advice == "Clean or drop these samples where the Dataset makes them."


class Passing(Model):
    """Its batches pass a hook between loader and step."""

    def __init__(self, change: Callable[[Any], Any]) -> None:
        super().__init__()
        self.change = change

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return self.change(batch)


HOOKS: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "it rolls the batch": (lambda batch: tuple(leaf.roll(1, 0) for leaf in batch), True),
    "it scales the inputs": (lambda batch: (2 * batch[0], batch[1]), True),
    "it breaks a sample itself": (
        lambda batch: (batch[0].index_fill(0, torch.tensor([3]), torch.nan), batch[1]),
        False,
    ),
}


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_between_loader_and_step_may_move_samples(name: str, tmp_path: Path) -> None:
    change, is_known = HOOKS[name]
    finding = told(tmp_path, loader(Rows(), in_order), Passing(change))
    assert finding.evidence["dataset_indices"] == ([BAD] if is_known else [])
    assert is_known or "on_after_batch_transfer() may sort or drop samples" in finding.evidence["note"]


def test_noise_in_a_batch_that_is_in_order_hides_no_entry(tmp_path: Path) -> None:
    """The rows differ when they are drawn again, what stands beside them does not."""

    class Named(Rows):
        def __getitem__(self, i: int) -> Any:
            x, y = super().__getitem__(i)
            return {"x": x, "y": y, "file": f"{i}.png"}

    finding = told(tmp_path, loader(Named(noisy=True), in_order))
    assert finding.evidence["dataset_indices"] == [BAD]


def test_a_subset_is_told_with_the_data_below_it(tmp_path: Path) -> None:
    finding = told(tmp_path, loader(Subset(Rows(), list(range(63, 20, -1))), around))
    assert finding.advice == f"Clean or drop entry {63 - BAD} of the dataset, which is Rows[{BAD}]."
    assert finding.evidence["dataset_indices"] == [63 - BAD]


def test_a_chain_of_data_sets_is_told_with_the_link(tmp_path: Path) -> None:
    chain = ConcatDataset([Rows(16, -1), Rows(16, 5, first=16), Rows(16, -1, first=32)])
    finding = told(tmp_path, loader(chain, by_label))
    assert finding.advice == "Clean or drop entry 21 of the dataset, which is Rows[5]."


def test_drawing_again_leaves_the_data_set_and_random_numbers_as_they_were(tmp_path: Path) -> None:
    """The run goes on: its weights and what its data set counted are as without the detector."""
    ends = []
    for callbacks in ([], [GradientAnomalyDetector(action="warn")]):
        pl.seed_everything(2, verbose=False)
        data, model = Rows(noisy=True), Model()
        pl.Trainer(default_root_dir=tmp_path, callbacks=callbacks, max_epochs=1, **QUIET).fit(
            model, loader(data, around)
        )
        ends.append((data.asked, data.count, torch.rand(3).tolist(), random.random()))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("shape", ["dict", "list"])
def test_of_two_training_loaders_the_one_that_broke_is_named(shape: str, tmp_path: Path) -> None:
    sound, bad = loader(Rows(40, -1), batch_size=4), loader(Rows(), around)
    loaders: Any = {"a": sound, "b": bad} if shape == "dict" else [sound, bad]
    key = "b" if shape == "dict" else 1
    finding = told(tmp_path, CombinedLoader(loaders, "min_size"), Model(lambda batch: batch[key]))
    assert finding.evidence["dataset_indices"] == [BAD]
    assert f"of batch[{key!r}]" in finding.message
    assert finding.advice == f"Clean or drop entry {BAD} of the dataset behind batch[{key!r}]."


class Answers(pl.LightningModule):
    """Its answers are for one of two loaders, or for both."""

    def __init__(self, key: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.key, self.wrong = torch.nn.Linear(4, 3), key, []

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        keys = ["a", "b"] if self.key == "both" else [self.key]
        x, y, at = (torch.cat(column) for column in zip(*[batch[key] for key in keys], strict=True))
        if len(keys) == 1:
            x, y, at = batch[self.key]
        scores = self.layer(x)
        self.wrong += at[scores.argmax(1) != y].tolist()
        return torch.nn.functional.cross_entropy(scores, y)


def columns(n: int, first: int) -> TensorDataset:
    draw = torch.Generator().manual_seed(first)
    classes = torch.randint(0, 3, (n,), generator=draw)
    return TensorDataset(torch.randn(n, 4, generator=draw), classes, first + torch.arange(n))


@pytest.mark.parametrize("mode", ["min_size", "max_size_cycle", "sequential"])
@pytest.mark.parametrize("key", ["a", "b", "both"])
def test_samples_of_loaders_that_are_read_at_once_have_their_own_index_or_none(
    key: str, mode: str, tmp_path: Path
) -> None:
    model: Any = Answers(key)
    if mode == "sequential":
        step = model.validation_step

        def one_of_them(batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            model.key = "it"
            return step({"it": batch}, batch_idx)

        model.validation_step = one_of_them
    trainer = pl.Trainer(default_root_dir=tmp_path, callbacks=[ErrorAnalysis()], **QUIET)
    loaders = {"a": DataLoader(columns(48, 0), 8), "b": DataLoader(columns(32, 48), 8)}
    trainer.validate(model, CombinedLoader(loaders, mode), verbose=False)
    found = json.loads((tmp_path / "debugkit" / "errors.json").read_text())
    with (tmp_path / "debugkit" / "misclassified.csv").open() as file:
        named = [int(row["index"]) for row in csv.DictReader(file) if row["index"]]
    if key == "both" and mode != "sequential":
        assert named == []
        assert sum("Several loaders are read at once" in note for note in found["notes"]) == 1
    else:
        assert sorted(named) == sorted(model.wrong)


@pytest.mark.parametrize(
    ("named", "count", "told"),
    [
        ([0, 0, 0, 1, 2, 2], 3, [0, 0, 0, 1, 2, 2]),
        ([0, 3, 4, 6], 3, [0, 0, 0, 1, 2, 2]),
        ([0, 0, 0, 1, 2, 2], 4, None),  # the loader asked for more
        ([0, 3, 4, 5], 3, None),  # offsets that end before the rows do
        ([2, 0, 1, 0, 2, 1], 3, None),  # labels of rows
        ([3, 1, 2], 3, None),  # lengths
    ],
)
def test_rows_are_a_samples_only_where_the_batch_says_so_without_doubt(
    named: list[int], count: int, told: list[int] | None
) -> None:
    found = owners({"rows": torch.zeros(6, 2), "named": torch.tensor(named), "y": torch.zeros(count)}, count)
    assert (None if found is None else found.tolist()) == told
