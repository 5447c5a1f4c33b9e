"""What a keeper knows while it writes beside the training."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpointing.folders import draft, steps, writer

from lightning_debugkit.checkpointing.keeper import Keeper
from lightning_debugkit.checkpointing.retention_rules import Occasion
from lightning_debugkit.checkpointing.store import Store
from lightning_debugkit.checkpoints import Best, Latest, Moment

BEST = Best("loss", k=2)


class Paused(Store):
    """Its thread stops between the commit of a file and the deletions that follow, until it is let on."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.is_committed, self.may = threading.Event(), threading.Event()

    def _link(self) -> None:
        self.is_committed.set()
        assert self.may.wait(30)
        super()._link()


@pytest.fixture
def store(tmp_path: Path) -> Paused:
    return Paused(tmp_path, [BEST, Latest()], "0123abcd")


@pytest.fixture
def keeper(store: Paused) -> Iterator[Keeper]:
    keeper = Keeper(store, beside=True)
    yield keeper
    store.may.set()
    keeper.close()


def save(keeper: Keeper, step: int, loss: float) -> None:
    record = draft(step, loss)
    keeper.save(record, writer(record))


def test_a_file_that_is_committed_but_not_done_with_counts_once(keeper: Keeper, store: Paused) -> None:
    """Counted twice it would be the best and the second best, and a second best one would not be saved."""
    save(keeper, 1, 1.0)
    assert store.is_committed.wait(30)
    assert keeper.is_busy
    assert [record.step for record in keeper.history] == [1]
    second = draft(2, 2.0)
    assert keeper.due(second, Moment(1), Occasion.BOUNDARY) == [BEST, Latest()]
    store.may.set()
    keeper.save(second, writer(second))
    keeper.wait()
    assert steps(store.folder) == [1, 2]
