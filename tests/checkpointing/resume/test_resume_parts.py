"""Random states in plain form, generators that objects own, and a sampler under watch."""

from __future__ import annotations

import copy
import io
import pickle
import random
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from lightning_debugkit.checkpointing.resume.owned_generators import Owned
from lightning_debugkit.checkpointing.resume.rng_state import RngState, plain, unplain
from lightning_debugkit.checkpointing.resume.sampler_epochs import (
    SamplerRecorder,
    checksum_of,
    recorder_of,
)
from lightning_debugkit.data.loaders import own_sampler


class Transform:
    def __init__(self) -> None:
        self.rng = np.random.default_rng(1)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Linear(1, 1)
        self.part.noise = torch.Generator().manual_seed(2)


def objects() -> dict[str, Any]:
    dataset = SimpleNamespace(
        transforms=[Transform()], old=np.random.RandomState(3), python=random.Random(4), data=list(range(1000))
    )
    return {"train.0": SimpleNamespace(dataset=dataset), "model": Model()}


def draws(roots: dict[str, Any]) -> list[float]:
    """One number of every generator there is."""
    dataset = roots["train.0"].dataset
    return [
        random.random(),
        float(np.random.rand()),
        float(torch.rand(())),
        dataset.transforms[0].rng.random(),
        dataset.old.rand(),
        dataset.python.random(),
        float(torch.rand((), generator=roots["model"].part.noise)),
    ]


def test_a_moment_comes_back_from_a_checkpoint() -> None:
    roots = objects()
    owned = Owned(lambda: roots)
    file = io.BytesIO()
    torch.save(plain(RngState.now(owned)), file)
    first = draws(roots)
    assert all(a != b for a, b in zip(first, draws(roots), strict=True))

    file.seek(0)
    assert RngState.of(torch.load(file, weights_only=True)).restore(owned) == []
    assert draws(roots) == first


def test_generators_are_named_by_their_path() -> None:
    roots = objects()
    assert sorted(Owned(lambda: roots).states()) == [
        "model.part.noise",
        "train.0.dataset.old",
        "train.0.dataset.python",
        "train.0.dataset.transforms.0.rng",
    ]


def test_generators_that_are_gone_are_returned() -> None:
    roots = objects()
    states = Owned(lambda: roots).states()
    del roots["model"]
    assert Owned(lambda: roots).restore(states) == ["model.part.noise"]


def test_the_global_generators_of_numpy_of_any_kind_come_back() -> None:
    state = plain(np.random.get_state(legacy=False))
    numbers = np.random.rand(3)
    np.random.set_state(unplain(state))
    assert np.array_equal(np.random.rand(3), numbers)


@pytest.mark.parametrize("value", [OrderedDict(a=1), {1, 2}, object(), np.random.default_rng(0), RandomSampler])
def test_what_is_not_plain_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be kept in a checkpoint of plain types"):
        plain({"deep": [value]})


class Numbered(BatchSampler):
    """A batch sampler with a method and a setting of its own."""

    size = 0

    def total(self) -> int:
        return len(self.sampler)


def watched() -> tuple[DataLoader[int], SamplerRecorder]:
    loader = DataLoader(range(10), batch_sampler=Numbered(RandomSampler(range(10)), 4, False))
    return loader, SamplerRecorder(loader, lambda: None)


def test_a_sampler_under_watch_is_still_itself() -> None:
    loader, watch = watched()
    seen: Any = loader.batch_sampler
    assert isinstance(seen, Numbered)
    assert (len(seen), seen.total(), len(loader)) == (3, 10, 3)
    seen.batch_size = seen.size = 5
    assert (watch.sampler.batch_size, watch.sampler.size) == (5, 5)
    assert [len(batch) for batch in loader] == [5, 5]
    assert type(pickle.loads(pickle.dumps(seen))) is type(copy.deepcopy(seen)) is Numbered


def test_a_watch_that_is_removed_leaves_the_sampler() -> None:
    loader, watch = watched()
    assert (recorder_of(loader), own_sampler(loader.batch_sampler)) == (watch, watch.sampler)
    watch.remove()
    assert loader.batch_sampler is watch.sampler
    assert recorder_of(loader) is None


def test_watching_changes_no_order() -> None:
    loader, watch = watched()
    torch.manual_seed(0)
    order = torch.cat(list(loader))
    watch.remove()
    torch.manual_seed(0)
    assert torch.equal(order, torch.cat(list(loader)))


@pytest.mark.parametrize("keys", [[[3, 1], [2]], [["a", "b"], ["c"]], [[(0, 1)], [2**70]]])
def test_the_checksum_tells_other_keys_and_another_order(keys: list[Any]) -> None:
    def of(batches: list[Any]) -> int:
        checksum = 0
        for batch in batches:
            checksum = checksum_of(batch, checksum)
        return checksum

    assert of(keys) == of(copy.deepcopy(keys))
    assert of(keys) != of(keys[::-1])
    assert of(keys) != of([*keys, [1]])
