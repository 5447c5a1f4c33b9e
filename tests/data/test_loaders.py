"""What a loader is made of shows, whatever the kit has put around it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, Sampler, TensorDataset

from lightning_debugkit.checkpointing.resume.sampler_epochs import SamplerRecorder
from lightning_debugkit.data.loaders import own_sampler, samplers_of
from lightning_debugkit.data.sample_order import OrderRecorder


class Shuffled(Sampler[int]):
    def __init__(self, count: int) -> None:
        self.count, self.epoch = count, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        order = torch.Generator().manual_seed(self.epoch)
        return iter(torch.randperm(self.count, generator=order).tolist())

    def __len__(self) -> int:
        return self.count


class Paired(Sampler[list[int]]):
    """Batches of two, by a sampler that is not named as torch names its own, of a data set that has epochs, too."""

    def __init__(self, order: Shuffled, data: Dataset[object]) -> None:
        self.order, self.data = order, data

    def __iter__(self) -> Iterator[list[int]]:
        entries = list(self.order)
        return iter([entries[at : at + 2] for at in range(0, len(entries), 2)])

    def __len__(self) -> int:
        return len(self.order) // 2


class Epochs(Dataset[int]):
    def set_epoch(self, epoch: int) -> None:
        pass

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        return index


def test_samplers_show_through_all_that_the_kit_puts_around_them() -> None:
    loader = DataLoader(TensorDataset(torch.arange(8.0)), batch_size=2, shuffle=True)
    inner = loader.batch_sampler
    object.__setattr__(loader, "batch_sampler", OrderRecorder(inner))
    SamplerRecorder(loader, lambda: None)
    object.__setattr__(loader, "batch_sampler", OrderRecorder(loader.batch_sampler))
    assert own_sampler(loader.batch_sampler) is inner
    found = [(path, type(sampler)) for path, sampler in samplers_of(loader, "train")]
    assert found == [("train.batch_sampler", BatchSampler), ("train.sampler", RandomSampler)]


def test_a_sampler_that_shuffles_by_epochs_is_found_by_any_name_and_a_data_set_is_none() -> None:
    data = Epochs()
    loader = DataLoader(data, batch_sampler=Paired(Shuffled(8), data))
    found = [path for path, _ in samplers_of(loader)]
    assert found == [".batch_sampler", ".sampler", ".batch_sampler.order"]
