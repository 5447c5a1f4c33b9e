"""A stream that goes on from where it was does so in a resumed run; where it cannot, that is told."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpointing.resume.interrupted import causes, resumed, same, told, whole
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, TensorDataset

from lightning_debugkit import Severity
from lightning_debugkit.checkpointing.resume import streams

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def row(at: int) -> list[Tensor]:
    x = torch.randn(4, generator=torch.Generator().manual_seed(at))
    return [x, x.sum(0, keepdim=True)]


def rows(at: int) -> list[Tensor]:
    return [torch.stack(part) for part in zip(*(row(4 * at + each) for each in range(4)), strict=True)]


class Counts(IterableDataset[Any]):
    """Goes on from an attribute, over the epochs."""

    def __init__(self) -> None:
        self.place = 0

    def __iter__(self) -> Iterator[Any]:
        for _ in range(24):
            self.place += 1
            yield row(self.place)


class Long(Counts):
    def __len__(self) -> int:
        return 24


class Stateful(IterableDataset[Any]):
    """Has a state, which a plain `DataLoader` asks for never."""

    def __init__(self) -> None:
        self.at, self.epoch = 0, 0

    def __iter__(self) -> Iterator[Any]:
        while self.at < 24:
            self.at += 1
            yield row(100 * self.epoch + self.at)
        self.at, self.epoch = 0, self.epoch + 1

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.at, self.epoch = state["at"], state["epoch"]


class Eager(IterableDataset[Any]):
    """Moves when it is iterated, not with its first sample."""

    epoch = 0

    def __iter__(self) -> Iterator[Any]:
        self.epoch += 1
        return iter([row(100 * self.epoch + at) for at in range(24)])


class Mixed(IterableDataset[Any]):
    """Keeps a buffer from one epoch to the next, and draws from it."""

    def __init__(self) -> None:
        self.buffer: list[Any] = []
        self.place, self.own = 0, random.Random(3)

    def __iter__(self) -> Iterator[Any]:
        for _ in range(24):
            while len(self.buffer) < 8:
                self.buffer.append(row(self.place))
                self.place += 1
            yield self.buffer.pop(self.own.randrange(8))


class Source:
    def __init__(self) -> None:
        self.given = 0

    def __iter__(self) -> Source:
        return self

    def __next__(self) -> Any:
        self.given += 1
        return row(self.given)


class Within(IterableDataset[Any]):
    """What it iterates over has the place."""

    def __init__(self) -> None:
        self.sources = [Source()]

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(self.sources[0], 24)


class Own:
    """A loader of one's own, without a state."""

    def __init__(self) -> None:
        self.place = 0

    def __iter__(self) -> Iterator[Any]:
        for _ in range(6):
            self.place += 1
            yield rows(self.place)


class OwnLong(Own):
    def __len__(self) -> int:
        return 6


class Draws:
    """Draws the order of its epoch when it is asked for the first batch."""

    def __iter__(self) -> Iterator[Any]:
        order = random.sample(range(6), 6)
        yield from (rows(at) for at in order)


class Derived(DataLoader[Any]):
    """Iterates in its own way over a map-style dataset."""

    def __init__(self) -> None:
        super().__init__(TensorDataset(torch.zeros(24, 1)), batch_size=4)
        self.place = 0

    def __iter__(self) -> Any:
        for _ in range(6):
            self.place += 1
            yield rows(self.place)


class OfIterator:
    """The iterator has the state, and the loader hands it on: a place at the end is followed by the next epoch."""

    def __init__(self) -> None:
        self.epoch, self.inner, self.begin = 0, None, None

    def __len__(self) -> int:
        return 6

    def __iter__(self) -> Iterator[Any]:
        self.inner, self.begin = self.begin or {"at": 0, "epoch": self.epoch}, None
        self.epoch = self.inner["epoch"] + 1
        return self._rest(self.inner)

    def _rest(self, inner: dict[str, int]) -> Iterator[Any]:
        while inner["at"] < 6:
            inner["at"] += 1
            yield rows(100 * inner["epoch"] + inner["at"])

    def state_dict(self) -> dict[str, Any]:
        return dict(self.inner or {"at": 0, "epoch": self.epoch})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.begin = dict(state)


class Endless:
    """A state that goes on over the epochs, which end by ``limit_train_batches``."""

    def __init__(self) -> None:
        self.place = 0

    def __iter__(self) -> Iterator[Any]:
        while True:
            self.place += 1
            yield rows(self.place)

    def state_dict(self) -> dict[str, int]:
        return {"place": self.place}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.place = state["place"]


def behind(dataset: Any, **options: Any) -> Any:
    return lambda: DataLoader(dataset(), batch_size=4, **options)


class Redraws(Endless):
    """Ends its epochs itself; draws a number with each iterator, and one more with one that is set."""

    is_set = False

    def __iter__(self) -> Iterator[Any]:
        torch.randn(1 + self.is_set)
        self.is_set = False
        return self._epoch()

    def _epoch(self) -> Iterator[Any]:
        while self.place % 7 < 6:
            self.place += 1
            yield rows(self.place)
        self.place += 1

    def load_state_dict(self, state: dict[str, int]) -> None:
        super().load_state_dict(state)
        self.is_set = True


POINTS = ["on_train_batch_end-2", "on_train_batch_end-9", "on_train_epoch_end-6", "on_train_epoch_end-12"]
EXACT: dict[str, dict[str, Any]] = {
    "an attribute": {"make": behind(Counts)},
    "an attribute, with a length": {"make": behind(Long)},
    "a state that nobody asks for": {"make": behind(Stateful)},
    "an attribute that moves with the iterator": {"make": behind(Eager)},
    "a buffer": {"make": behind(Mixed)},
    "an attribute of its source": {"make": behind(Within)},
    "a loader of one's own": {"make": Own},
    "a loader of one's own, with a length": {"make": OwnLong},
    "a loader of one's own that draws": {"make": Draws},
    "a DataLoader with an iterator of its own": {"make": Derived},
    "a state of the iterator": {"make": OfIterator},
    "a state over the epochs": {"make": Endless, "limit_train_batches": 6},
    "an iterator that draws more when it is set": {"make": Redraws},
}


@pytest.mark.parametrize("program", EXACT.values(), ids=EXACT)
def test_a_stream_goes_on_from_where_it_was(program: dict[str, Any], tmp_path: Path) -> None:
    uninterrupted = whole(tmp_path, POINTS, **program)
    assert [point for point in POINTS if not same(uninterrupted, resumed(tmp_path, point, **program))] == []
    assert [told(tmp_path / point) for point in POINTS if told(tmp_path / point)] == []


def test_batches_of_a_window_and_of_workers_are_those_that_follow(tmp_path: Path) -> None:
    for at, program in enumerate(
        [{"make": behind(Counts), "accumulate_grad_batches": 2}, {"make": behind(Stateful, num_workers=1)}]
    ):
        points = ["on_train_batch_end-8", "on_train_epoch_end-6"]
        uninterrupted = whole(tmp_path / str(at), points, **program)
        for point in points:
            assert same(uninterrupted, resumed(tmp_path / str(at), point, **program))
            assert told(tmp_path / str(at) / point) == []


class Anew(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([row(at) for at in range(24)])


class Drawn(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([row(at) for at in random.sample(range(24), 24)])


IN_WORKERS: dict[str, tuple[Any, list[str], list[str]]] = {
    "begins anew": (Anew, [], []),
    "goes on": (Counts, ["goes-on-in-workers"], ["goes-on-in-workers"]),
    "is drawn": (Drawn, ["drawn-in-workers"], ["drawn-in-workers"]),
}


@pytest.mark.parametrize(("dataset", "first", "second"), IN_WORKERS.values(), ids=IN_WORKERS)
def test_a_stream_in_persistent_workers(dataset: Any, first: list[str], second: list[str], tmp_path: Path) -> None:
    """After one epoch it is not known yet whether the next gives the same, after two it is."""
    program = {"make": behind(dataset, num_workers=1, persistent_workers=True)}
    points = ["on_train_epoch_end-6", "on_train_epoch_end-12"]
    uninterrupted = whole(tmp_path, points, **program)
    for point, names, back in zip(points, (first, second), (6, 12), strict=True):
        assert same(uninterrupted, resumed(tmp_path, point, **program)) == (not names)
        assert causes(tmp_path / point) == names
        assert [finding.severity for finding in told(tmp_path / point)] == [Severity.WARNING] * len(names)
        if "goes-on-in-workers" in names:
            (finding,) = told(tmp_path / point)
            assert f"where it is made: {back} batches back" in finding.message


def test_a_place_that_is_not_at_the_end_of_its_epoch_is_told(tmp_path: Path) -> None:
    class Longer(Endless):
        """Its state lacks how much of the epoch is left."""

        def __iter__(self) -> Iterator[Any]:
            for _ in range(6):
                self.place += 1
                yield rows(self.place)

    point = "on_train_epoch_end-6"
    whole(tmp_path, [point], make=Longer)
    resumed(tmp_path, point, make=Longer)
    assert causes(tmp_path / point) == ["place"]


class Held(IterableDataset[Any]):
    """A generator that was there from the beginning: nobody can set it."""

    def __init__(self) -> None:
        self.rows = (row(at) for at in itertools.count())

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(self.rows, 24)


class Opened(IterableDataset[Any]):
    """Opens what it reads when it first does: the mark alone, without the open file, would end the training."""

    def __init__(self) -> None:
        self.is_open, self.file = False, None

    def __iter__(self) -> Iterator[Any]:
        if not self.is_open:
            self.file, self.is_open = Source(), True
            self.file = map(lambda each: each, self.file)  # noqa: C417  # an iterator, and nothing besides
        return itertools.islice(self.file, 24)


UNSET: dict[str, tuple[Any, list[list[str]], Severity]] = {
    "a generator": (Held, [["goes-on"], ["order"], ["order"]], Severity.WARNING),
    "a file that is open": (Opened, [["attributes"], [], ["order"]], Severity.INFO),
}


@pytest.mark.parametrize(("dataset", "names", "severity"), UNSET.values(), ids=UNSET)
def test_what_cannot_be_set_is_told_and_left_alone(
    dataset: Any, names: list[list[str]], severity: Severity, tmp_path: Path
) -> None:
    points = ["on_train_epoch_end-6", "on_train_batch_end-2", "on_train_batch_end-9"]
    program = {"make": behind(dataset)}
    uninterrupted = whole(tmp_path, points, **program)
    again = [same(uninterrupted, resumed(tmp_path, point, **program)) for point in points]
    assert again == [not name for name in names]
    assert [causes(tmp_path / point) for point in points] == names
    assert told(tmp_path / points[0])[0].severity == severity


def test_what_has_not_moved_is_the_programs_own(tmp_path: Path) -> None:
    class Scaled(Counts):
        def __init__(self, scale: int) -> None:
            super().__init__()
            self.scale = scale

    datasets: list[Scaled] = []

    def make(scale: int) -> Any:
        datasets.append(Scaled(scale))
        return DataLoader(datasets[-1], batch_size=4)

    whole(tmp_path, ["on_train_epoch_end-6"], make=partial(make, 1))
    resumed(tmp_path, "on_train_epoch_end-6", make=partial(make, 2))
    assert [(each.scale, each.place) for each in datasets] == [(1, 72), (2, 72)]


def test_a_place_is_kept_however_slow_the_machine_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No share of the time is left to take one: that of the epoch's begin serves, and the batches since are pulled."""
    monkeypatch.setattr(streams, "_START", -1e9)
    program = {"make": Endless, "limit_train_batches": 6}
    points = ["on_train_batch_end-4", "on_train_batch_end-9"]
    uninterrupted = whole(tmp_path, points, **program)
    for point in points:
        assert same(uninterrupted, resumed(tmp_path, point, **program))
        assert told(tmp_path / point) == []


class EpochsInWorkers(IterableDataset[Any]):
    """Counts its epochs where it is iterated: a persistent worker goes on counting, a new one begins."""

    epoch = 0

    def __iter__(self) -> Iterator[Any]:
        self.epoch += 1
        yield from (row(100 * self.epoch + at) for at in range(24))


@pytest.mark.parametrize("keeps", [True, False])
def test_a_save_within_a_batch_is_compared_by_the_batch_before(tmp_path: Path, keeps: bool) -> None:
    """As Ctrl-C saves: the batch in use is run anew, and is not the last that was used."""
    make = partial(DataLoader, EpochsInWorkers(), batch_size=4, num_workers=1, persistent_workers=keeps)
    uninterrupted = whole(tmp_path, ["on_train_batch_start-15"], make=make)
    found = resumed(tmp_path, "on_train_batch_start-15", make=make)
    assert (causes(tmp_path / "on_train_batch_start-15"), same(found, uninterrupted)) == (
        (["order", "mid-batch"], False) if keeps else (["mid-batch"], True)
    )


class Forward(DataLoader[Any]):
    """Goes forward to its place over a sampler without a state, as torchdata's `StatefulDataLoader` does."""

    given = skip = 0

    def __iter__(self) -> Any:
        passed: Any = super().__iter__()
        self.given, self.skip = self.skip, 0
        for _ in range(self.given):
            next(passed._sampler_iter)
        return self.counted(passed)

    def counted(self, passed: Iterator[Any]) -> Iterator[Any]:
        for batch in passed:
            self.given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"given": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.skip = state["given"]


@pytest.mark.parametrize("point", ["on_train_batch_end-3", "on_train_batch_end-9"])
def test_a_sampler_without_a_state_gives_its_order_again(tmp_path: Path, point: str) -> None:
    def make() -> DataLoader[Any]:
        data = TensorDataset(*(torch.stack(part) for part in zip(*map(row, range(24)), strict=True)))
        return Forward(data, batch_size=4, sampler=RandomSampler(data, replacement=True))

    uninterrupted = whole(tmp_path, [point], make=make)
    assert (same(resumed(tmp_path, point, make=make), uninterrupted), causes(tmp_path / point)) == (True, [])
