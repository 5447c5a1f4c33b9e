"""Samples that are drawn once more leave a data set as it was, or are not drawn."""

from __future__ import annotations

import itertools
import random
import sqlite3
import threading
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset

from lightning_debugkit.data.drawing import CannotDraw, drawing

ELSEWHERE = np.random.default_rng(3)
READS = 0
LOG: list[int] = []


def jittered() -> Any:
    generator = torch.Generator().manual_seed(1)
    return lambda: float(torch.rand((), generator=generator))


class Mixing:
    """A transform of the program's own, with a state."""

    def __init__(self) -> None:
        self.seen, self.chance, self.jitter = 0, random.Random(2), jittered()

    def __call__(self, value: float) -> float:
        self.seen += 1
        return value + self.chance.random() + self.jitter()


class Rows(Dataset[Any]):
    """Rows of a file, read from where the last one ended, and changed by chance of all makes."""

    def __init__(self, file: Path) -> None:
        file.write_text("".join(f"{n}\n" for n in range(20)))
        self.file, self.mixing, self.reads = file.open(), Mixing(), 0
        self.waiting, self.cache = deque(range(20)), dict[int, float]()

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> float:
        global READS
        READS += 1
        LOG.append(index)
        self.reads += 1
        noise = ELSEWHERE.normal() + torch.rand(()).item() + random.random() + self.waiting.popleft()
        self.cache[index] = self.mixing(float(self.file.readline()) + noise)
        return self.cache[index]


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: ConcatDataset([Subset(rows, [3, 4, 5])])])
def test_what_is_drawn_next_is_what_would_have_been(wrap: Any, tmp_path: Path) -> None:
    rows = Rows(tmp_path / "rows.txt")
    rows[7]
    before = rows.reads, rows.mixing.seen, READS, list(LOG), dict(rows.cache), list(rows.waiting)
    with drawing([wrap(rows)]):
        drawn = [wrap(rows)[at] for at in range(3)]
        assert rows.reads == 4
    assert before == (rows.reads, rows.mixing.seen, READS, LOG, rows.cache, list(rows.waiting))
    assert [wrap(rows)[at] for at in range(3)] == drawn


class Counted(Dataset[Any]):
    """Entries without an attribute of their own: the class counts, itself and by a method."""

    reads, order, source = 0, list[int](), None

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> float:
        self._count(index)
        return index + 0.5 * Counted.reads

    @staticmethod
    def _count(index: int) -> None:
        global READS
        READS += 1
        Counted.reads += 1
        Counted.order.append(index)


@pytest.mark.parametrize("rows", [Counted(), Subset(Counted(), [3, 4, 5])])
def test_what_a_class_counts_is_as_before(rows: Any) -> None:
    before = Counted.reads, list(Counted.order), READS
    with drawing([rows]):
        drawn = rows[2], rows[1]
        assert len(Counted.order) == len(before[1]) + 2
    assert before == (Counted.reads, Counted.order, READS)
    with drawing([rows]):
        assert drawn == (rows[2], rows[1])


def test_a_cursor_is_not_read_on_and_what_reads_by_a_connection_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = sqlite3.connect(":memory:")
    monkeypatch.setattr(Counted, "source", connection.cursor())
    with pytest.raises(CannotDraw), drawing([Counted()]):
        pass
    monkeypatch.setattr(Counted, "source", connection)
    with drawing([Counted()]):
        pass


@pytest.mark.parametrize("held", [lambda: itertools.cycle([1, 2]), lambda: (n for n in range(3)), threading.Thread])
def test_what_cannot_be_wound_back_is_not_drawn_unless_it_is_asked_for(held: Any, tmp_path: Path) -> None:
    rows = Rows(tmp_path / "rows.txt")
    rows.mixing.chance = held()
    with pytest.raises(CannotDraw, match=r"^the samples come from an iterator or a thread"), drawing([rows]):
        pass
    with drawing([rows], is_asked=True):
        expected = ELSEWHERE.normal()
        rows.reads = 5
    assert (rows.reads, ELSEWHERE.normal()) == (5, expected)


def test_an_object_that_minds_being_looked_at_is_not_drawn(tmp_path: Path) -> None:
    class Sulky:
        __slots__ = ()

        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    rows = Rows(tmp_path / "rows.txt")
    rows.mixing = Sulky()  # type: ignore[assignment]
    with pytest.raises(CannotDraw), drawing([rows]):
        pass
