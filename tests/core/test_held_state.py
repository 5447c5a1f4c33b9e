"""What a step changes outside of the model is put back, and what nobody can put back is found."""

from __future__ import annotations

import io
import itertools
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit.core.held_state import cannot_undo
from lightning_debugkit.core.isolation import isolated

COUNTS = Counter(steps=1)
TOTAL = 0
ROWS = np.zeros(3)
SCORES: list[float] = []


class Environment:
    """An object of the user's, with generators of its own and a buffer in slots."""

    __slots__ = ("draws", "generator", "rows", "time")

    def __init__(self) -> None:
        self.generator = np.random.default_rng(3)
        self.draws = random.Random(4)
        self.rows = np.zeros(4)
        self.time = 0

    def act(self) -> None:
        self.time += 1
        self.rows[self.time % 4] = self.generator.normal() + self.draws.random()


class Tally:
    """What a program counts in a class that it never makes an object of."""

    steps = 0
    seen: list[int] = []  # noqa: RUF012  # of the class


WORLD = Environment()


def counter() -> Callable[[], int]:
    count = 0

    def counted() -> int:
        nonlocal count
        count += 1
        return count

    return counted


def count_all() -> None:
    COUNTS["steps"] += 1


class Acts(nn.Module):
    calls = 0
    log: list[int] = []  # noqa: RUF012  # shared by mistake, as in many a program

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.world = Environment()
        self.teachers = [nn.BatchNorm1d(2)]
        self.count = counter()
        self.later = partial(Environment().act)
        self.noise = torch.Generator().manual_seed(5)

    def forward(self, x: Tensor) -> Tensor:
        global TOTAL
        TOTAL += 1
        ROWS[1] += 1
        count_all()
        WORLD.act()
        Tally.steps += 1
        Tally.seen.append(1)
        type(self).calls += 1
        self.log.append(1)
        self.helper()
        self.count()
        self.later()
        self.teachers[0](x)
        torch.rand(2, generator=self.noise)
        return self.layer(x)

    def helper(self) -> None:
        self.world.act()
        SCORES.append(1.0)

    def said(self) -> dict[str, Any]:
        closure: Any = self.count
        return {
            "a global": TOTAL,
            "an array": ROWS.tolist(),
            "a counter behind a function": COUNTS["steps"],
            "an object": _said(WORLD),
            "another class": (Tally.steps, len(Tally.seen)),
            "an attribute of the class": self.calls,
            "a list of the class": len(self.log),
            "a global of a method": len(SCORES),
            "an object of the model's": _said(self.world),
            "an object behind a partial": _said(self.later.func.__self__),
            "a variable of an outer function": closure.__closure__[0].cell_contents,
            "a module in a list": [tensor.tolist() for tensor in self.teachers[0].buffers()],
            "a generator": self.noise.get_state().tolist(),
        }


def _said(world: Any) -> list[Any]:
    return [world.time, world.rows.tolist(), world.generator.bit_generator.state, world.draws.getstate()]


def test_changes_outside_of_the_model_are_put_back() -> None:
    model = Acts()
    assert cannot_undo(model) == ""
    before = model.said()
    with isolated(model):
        model(torch.randn(4, 2))
        within = model.said()
    assert [name for name, value in before.items() if within[name] == value] == []
    after = model.said()
    assert [name for name, value in before.items() if after[name] != value] == []


def drawn() -> Any:
    yield from range(3)


ENDLESS = itertools.count()


class Reads(Acts):
    def forward(self, x: Tensor) -> Tensor:
        return x * next(ENDLESS)


class Writes(Acts):
    def forward(self, x: Tensor) -> Tensor:
        with open("steps.txt", "a") as file:  # noqa: PTH123  # as people write it
            file.write("1")
        return x


@pytest.mark.parametrize(
    ("held", "kind"),
    [
        (iter([1]), "list_iterator"),
        (drawn(), "generator"),
        (itertools.cycle("ab"), "cycle"),
        (iter(DataLoader(TensorDataset(torch.zeros(4, 1)))), "_SingleProcessDataLoaderIter"),
        (io.StringIO(), "StringIO"),
        ({"a": [zip((1,), (2,), strict=True)]}, "zip"),
    ],
    ids=["list", "generator", "cycle", "loader", "file", "deep"],
)
def test_what_cannot_be_wound_back_is_found(held: Any, kind: str) -> None:
    model = Acts()
    model.held = held
    told = cannot_undo(model)
    assert told.startswith("self.held")
    assert f" is a {kind}, which cannot be wound back" in told


def test_iterators_and_files_in_the_code_of_a_step_are_found() -> None:
    assert cannot_undo(Reads()) == "ENDLESS is a count, which cannot be wound back"
    assert cannot_undo(Writes()) == "Writes.forward opens a file"


class Closed:
    """Refuses whatever it is asked."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = object.__hash__


def test_objects_that_refuse_to_be_looked_at_are_no_trouble() -> None:
    model = Acts()
    model.closed = [Closed(), {"a": Closed()}, sys.stdout]
    assert cannot_undo(model) == ""
    with isolated(model):
        model(torch.randn(4, 2))


def test_data_are_read_only_and_are_not_copied() -> None:
    model = Acts()
    model.data = TensorDataset(torch.zeros(3))
    with isolated(model):
        model.data.tensors[0].add_(1)
    assert model.data.tensors[0].sum() == 3


@pytest.mark.parametrize("is_alive", [True, False])
def test_a_thread_that_works_beside_the_step_keeps_it_from_running_again(is_alive: bool) -> None:
    """What it changes meanwhile would be taken for the step's."""
    module, done = nn.Linear(2, 2), threading.Event()
    module.loader = thread = threading.Thread(target=done.wait)  # type: ignore[assignment]  # no module
    thread.start()
    try:
        if not is_alive:
            done.set()
            thread.join()
        assert cannot_undo(module) == ("self.loader is a thread that works beside the step" if is_alive else "")
    finally:
        done.set()
