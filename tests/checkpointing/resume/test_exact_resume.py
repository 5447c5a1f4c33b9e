"""A resumed run ends, to the bit, as it would have without the interruption; where it cannot, it says so."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpointing.resume.interrupted import Net, Noisy, Two, causes, loader, resumed, same, told, whole
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, Sampler, WeightedRandomSampler

from lightning_debugkit import Severity

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

val = partial(loader, shuffle=False, n=8)


class Counting(Sampler[int]):
    """Shuffles by how often it was iterated."""

    def __init__(self) -> None:
        self.turn = 0

    def __len__(self) -> int:
        return 24

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.turn)
        self.turn += 1
        yield from torch.randperm(24, generator=generator).tolist()


class InPlace(Sampler[Any]):
    """Batches that are shuffled where they stand, dealt by weights that grow with each turn."""

    def __init__(self) -> None:
        self.batches = [[at, at + 1, at + 2, at + 3] for at in range(0, 24, 4)]
        self.order = np.arange(24)
        self.weights, self.turns = torch.ones(24), {"all": 0}

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        random.shuffle(self.batches)
        np.random.shuffle(self.order)
        self.turns["all"] += 1
        self.weights = self.weights + torch.arange(24) * self.turns["all"]
        least = int(self.weights.argmin())
        yield from [[least, *(int(self.order[at]) for at in batch[1:])] for batch in self.batches]


class Drawing(Sampler[int]):
    """Draws each index only when it is asked for."""

    def __len__(self) -> int:
        return 24

    def __iter__(self) -> Iterator[int]:
        for _ in range(24):
            yield random.randrange(24)


class Both(Net):
    """Trains on two loaders of unequal length: the shorter one is begun again within the epoch."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(batch["long"]) + self.loss(batch["short"])


class Draws(Net):
    """Draws random numbers in its hooks."""

    def on_train_start(self) -> None:
        torch.randn(3)

    def on_train_epoch_start(self) -> None:
        random.random()

    def on_train_epoch_end(self) -> None:
        torch.randn(1)


class Averaged(Net):
    """Keeps a moving average of its weights, and trains towards it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(8, 4))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.mean.lerp_(self.net[0].weight.detach(), 0.1)
        return self.loss(batch) + (self.net[0].weight - self.mean).square().mean()


def sampled(sampler: Any, workers: int = 0) -> Any:
    return lambda: DataLoader(Noisy(24), batch_size=4, sampler=sampler(), num_workers=workers)


def seeded() -> RandomSampler:
    return RandomSampler(range(24), generator=torch.Generator().manual_seed(4))


class Shuffled(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        order = random.sample(range(24), 24)
        data = Noisy(24, draws=())
        yield from (data[index] for index in order)


class Mixed(IterableDataset[Any]):
    """Draws from a buffer, with a generator of its own, and changes each sample at random."""

    def __init__(self) -> None:
        self.own = random.Random(3)

    def __iter__(self) -> Iterator[Any]:
        data, buffer = Noisy(24), list(range(8))
        for later in range(8, 32):
            place = self.own.randrange(8)
            index, buffer[place] = buffer[place], later
            yield data[index % 24]


class Sealed:
    """A batch whose values nobody can read but who asks for them."""

    __slots__ = ("__call__",)

    def __init__(self, samples: Any) -> None:
        self.__call__ = lambda: [torch.stack(part) for part in zip(*samples, strict=True)]


class Placed:
    """A stream without a length that keeps its place itself; its batches are of the place alone.

    Args:
        batches: In an epoch.
        sealed: Whether the batches cannot be read.
        timed: Whether its state is another at each look.
        deaf: Whether it does not take up the place it is given.
    """

    def __init__(self, batches: int = 6, sealed: bool = False, timed: bool = False, deaf: bool = False) -> None:
        self.batches, self.sealed, self.timed, self.deaf = batches, sealed, timed, deaf
        self.place = self.looks = self.begin = 0

    def __iter__(self) -> Iterator[Any]:
        self.place, self.begin = self.begin, 0
        return self._rest()

    def _rest(self) -> Iterator[Any]:
        while self.place < self.batches:
            self.place += 1
            x = torch.arange(16.0).reshape(4, 4) * self.place
            yield Sealed([(row, row[:1]) for row in x]) if self.sealed else [x, x[:, :1]]

    def state_dict(self) -> dict[str, int]:
        self.looks += self.timed
        return {"place": self.place, "looks": self.looks}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.begin = 0 if self.deaf else state["place"] % self.batches


class Foreign:
    """No DataLoader: batches that are drawn as they are asked for."""

    def __iter__(self) -> Iterator[Any]:
        for _ in range(6):
            yield [torch.randn(4, 4), torch.ones(4, 1)]


class Own(DataLoader[Any]):
    """Keeps its place itself, as torchdata's StatefulDataLoader does."""

    def __iter__(self) -> Any:
        start, vars(self)["start"] = vars(self).get("start", 0), 0
        batches = super().__iter__()
        for _ in range(start):
            next(batches)
        vars(self)["given"] = start
        return self.counted(batches)

    def counted(self, batches: Any) -> Any:
        for batch in batches:
            vars(self)["given"] += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"given": vars(self)["given"]}

    def load_state_dict(self, state: dict[str, int]) -> None:
        vars(self)["start"] = state["given"] % 6


MID = ["on_train_batch_end-2", "on_train_batch_end-6", "on_train_batch_end-9"]
ENDS = ["on_train_epoch_end-6", "on_train_epoch_end-12"]
VALS = ["on_validation_end-6", "on_validation_end-12"]
WITHIN = ["on_train_batch_end-2", "on_train_batch_end-9"]
FEW = ["on_train_batch_end-9", "on_train_epoch_end-6"]  # where processes make it slow

EXACT: dict[str, tuple[list[str], dict[str, Any]]] = {
    "shuffled": (MID + ENDS, {}),
    "in order": (MID + ENDS, {"make": partial(loader, shuffle=False)}),
    "two workers": (FEW, {"make": partial(loader, 2)}),
    "two workers in order": (FEW, {"make": partial(loader, 2, shuffle=False)}),
    "augmented by generators of its own": (MID + ENDS, {"make": partial(loader, draws=("own",))}),
    "the same in workers": (FEW, {"make": partial(loader, 2, draws=("own",))}),
    "only dropout draws": (MID + ENDS, {"make": partial(loader, shuffle=False, draws=())}),
    "no dropout": (MID + ENDS, {"module": partial(Net, dropout=0.0)}),
    "accumulated": (["on_train_batch_end-4", "on_train_batch_end-10", *ENDS], {"accumulate_grad_batches": 4}),
    "two optimizers by hand": (MID + ENDS, {"module": Two}),
    "validation": ([*WITHIN, *VALS, *ENDS], {"val": val}),
    "validation in a persistent worker": ([*WITHIN, *VALS, *ENDS], {"val": partial(val, 1, persistent_workers=True)}),
    "validation within the epoch": (["on_validation_end-3", *VALS, *ENDS], {"val": val, "val_check_interval": 0.5}),
    "validation each 4 batches": (
        ["on_validation_end-4", "on_validation_end-8"],
        {"val": val, "val_check_interval": 4, "check_val_every_n_epoch": None},
    ),
    "a part of the batches": (["on_train_batch_end-3", "on_train_epoch_end-4"], {"limit_train_batches": 4}),
    "max_steps": (MID + ENDS, {"max_steps": 15, "max_epochs": -1}),
    "max_steps with validation": ([*WITHIN, *VALS, *ENDS], {"max_steps": 15, "max_epochs": -1, "val": val}),
    "reloaded loaders": (ENDS, {"reload_dataloaders_every_n_epochs": 1, "make": partial(loader, 1)}),
    "a sampler with a generator": (MID + ENDS, {"make": sampled(seeded)}),
    "the same with a worker": (FEW, {"make": sampled(seeded, 1)}),
    "a loader with a generator": (
        FEW,
        {"make": lambda: loader(1, generator=torch.Generator().manual_seed(4))},
    ),
    "a sampler that counts": (MID + ENDS, {"make": sampled(Counting)}),
    "a sampler that changes lists and arrays where they are": (
        MID + ENDS,
        {"make": lambda: DataLoader(Noisy(24), batch_sampler=InPlace())},
    ),
    "a sampler that draws as it goes": (MID + ENDS, {"make": sampled(Drawing)}),
    "a weighted sampler": (MID + ENDS, {"make": sampled(lambda: WeightedRandomSampler(torch.ones(24), 24))}),
    "two loaders": (MID + ENDS, {"module": Both, "make": lambda: {"long": loader(), "short": loader(n=8)}}),
    "two loaders with workers": (
        FEW,
        {"module": Both, "make": lambda: {"long": loader(1), "short": loader(1, n=8)}},
    ),
    "hooks that draw": (WITHIN + ENDS, {"module": Draws}),
    "an average of weights": (MID + ENDS, {"module": Averaged}),
    "a schedule that waits for a metric": (
        ["on_train_batch_end-2", "on_train_batch_end-9", *ENDS],
        {"module": partial(Net, plateau=True), "val": val},
    ),
    "a schedule that waits for one of the middle of the epoch": (
        ["on_validation_end-3", "on_train_batch_end-8"],
        {"module": partial(Net, plateau=True), "val": val, "val_check_interval": 3},
    ),
    "a stream": (MID + ENDS, {"make": lambda: DataLoader(Shuffled(), batch_size=4)}),
    "a stream in a worker": (FEW, {"make": lambda: DataLoader(Shuffled(), batch_size=4, num_workers=1)}),
    "a stream that draws as it goes": (MID + ENDS, {"make": lambda: DataLoader(Mixed(), batch_size=4)}),
    "a loader that is none of torch's": (MID + ENDS, {"make": Foreign}),
    "a loader with a place of its own": (MID + ENDS, {"make": lambda: Own(Noisy(24), batch_size=4)}),
    "a stream with a place of its own": (MID + ENDS, {"make": lambda: Placed()}),
    "streams with places of their own": (
        MID + ENDS,
        {"module": Both, "make": lambda: {"long": Placed(), "short": Placed(3)}},
    ),
}


@pytest.mark.parametrize(("points", "program"), EXACT.values(), ids=EXACT)
def test_the_end_is_the_same(points: list[str], program: dict[str, Any], tmp_path: Path) -> None:
    """And it is another one without `ExactResume`: the seed of the resumed run is another."""
    uninterrupted = whole(tmp_path, points, **program)
    assert [point for point in points if not same(uninterrupted, resumed(tmp_path, point, **program))] == []
    assert [told(tmp_path / point) for point in points if told(tmp_path / point)] == []
    alone = [point for point in points if same(uninterrupted, resumed(tmp_path, point, callbacks=[], **program))]
    assert alone == []


class Iterated(Net):
    def training_step(self, dataloader_iter: Any) -> Tensor:
        return self.loss(next(dataloader_iter)[0])


PERSISTENT = partial(loader, 2, persistent_workers=True)


def both(**options: Any) -> Any:
    """Two loaders, the shorter one begun again within the epoch; it alone draws."""
    return lambda: {"long": PERSISTENT(draws=()), "short": PERSISTENT(n=8, **options)}


INEXACT: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "persistent workers that draw": ("on_train_batch_end-9", ["drawn-in-workers"], {"make": PERSISTENT}),
    "the same at the end of an epoch": ("on_train_epoch_end-6", ["drawn-in-workers"], {"make": PERSISTENT}),
    "the same where an epoch is cut short": (
        "on_train_epoch_end-4",
        ["drawn-in-workers"],
        {"make": PERSISTENT, "limit_train_batches": 4},
    ),
    "persistent workers of two loaders that draw": (
        "on_train_epoch_end-6",
        ["drawn-in-workers"],
        {"make": both(draws=("torch",)), "module": Both},
    ),
    "the same within an epoch": (
        "on_train_batch_end-9",
        ["drawn-in-workers"],
        {"make": both(draws=("torch",)), "module": Both},
    ),
    "before validation": ("on_train_batch_end-6", ["validation"], {"val": val}),
    "before validation within the epoch": (
        "on_train_batch_end-3",
        ["validation"],
        {"val": val, "val_check_interval": 3},
    ),
    "at the start of validation": ("on_validation_start-6", ["validation"], {"val": val}),
    "within a window of accumulation": ("on_train_batch_end-3", ["mid-window"], {"accumulate_grad_batches": 4}),
    "within a batch": ("on_before_optimizer_step-3", ["mid-batch"], {}),
    "at the start of an epoch": ("on_train_epoch_start-6", ["epoch-start"], {}),
    "before the first batch": ("on_train_start-0", ["epoch-start"], {}),
    "last batch, with hooks to come": ("on_train_batch_end-6", ["hooks"], {"module": Draws}),
    "hooks that run twice": ("on_train_epoch_end-6", ["hooks-again"], {"module": Draws, "max_steps": 15}),
    "before the schedule has its metric": (
        "on_validation_end-6",
        ["plateau"],
        {"module": partial(Net, plateau=True), "val": val},
    ),
    "dataloader_iter": ("on_train_batch_end-3", ["position"], {"module": Iterated}),
}


@pytest.mark.parametrize(("point", "names", "program"), INEXACT.values(), ids=INEXACT)
def test_what_is_not_exact_is_told(point: str, names: list[str], program: dict[str, Any], tmp_path: Path) -> None:
    uninterrupted = whole(tmp_path, [point], **program)
    assert not same(uninterrupted, resumed(tmp_path, point, **program))
    assert causes(tmp_path / point) == names
    finding = told(tmp_path / point)[0]
    is_left_out = names == ["validation"] and point.startswith("on_train_batch_end")
    is_sure = is_left_out or names in (["position"], ["mid-window"], ["drawn-in-workers"])
    assert finding.severity == (Severity.WARNING if is_sure else Severity.INFO)
    assert finding.message.startswith(f"from step {finding.where.step} on, the resumed run may differ from one that")


SEALED = partial(DataLoader, batch_size=4, collate_fn=Sealed)
UNCHECKED: dict[str, tuple[list[str], Any, Any]] = {
    "batches that cannot be read": (["unchecked"], lambda: SEALED(Shuffled()), Net),
    "a place of its own, and batches that cannot be read": (["stateful"], lambda: Placed(sealed=True, timed=True), Net),
    "persistent workers that draw nothing": (["persistent-workers"], partial(PERSISTENT, draws=()), Net),
    "two loaders of such workers": (["persistent-workers"], both(draws=()), Both),
}


@pytest.mark.parametrize(("names", "make", "module"), UNCHECKED.values(), ids=UNCHECKED)
def test_what_cannot_be_checked_is_told_though_it_be_exact(
    names: list[str], make: Any, module: Any, tmp_path: Path
) -> None:
    points = ["on_train_batch_end-8", "on_train_batch_end-15", *(ENDS if "workers" in names[0] else ())]
    uninterrupted = whole(tmp_path, points, make=make, module=partial(module, dropout=0.0))
    for point in points:
        assert same(uninterrupted, resumed(tmp_path, point, make=make, module=partial(module, dropout=0.0)))
        assert causes(tmp_path / point) == names
