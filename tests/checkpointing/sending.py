"""Lives of a fit that keeps its checkpoints in an object store, each ended by SIGKILL."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
from checkpointing.killing import Lines, Plan, at_once, in_a_write, look, run, until

from lightning_debugkit import NestedCheckpoint
from lightning_debugkit.checkpointing.object_store import ObjectStore
from lightning_debugkit.checkpointing.strategy_saving import folder_of
from lightning_debugkit.checkpoints import Latest


@dataclass(frozen=True)
class Life:
    """What a fit did until it was killed.

    Args:
        moved: Whether it began on another machine: without what had waited to be sent.
        newest: The newest step that there was to go on from.
        resumed: The step it went on from; None if it did not get that far.
        before: The newest step in the store before it.
        after: The newest step in the store now.
        unsound: What has a record in the store and is damaged.
        parts: New objects without a record, and drafts of files here.
    """

    moved: bool
    newest: int
    resumed: int | None
    before: int
    after: int
    unsound: dict[str, str]
    parts: list[str]


def lives(url: str, here: Path, count: int, chance: random.Random, megabytes: float = 1.0) -> Iterator[Life]:
    """Let a fit save in every other step; kill it at any moment, and begin the next, here or on another machine.

    Args:
        url: Of the folder in the store.
        here: Where its files wait.
        count: How many lives.
        chance: When, and where the next one begins.
        megabytes: Of a checkpoint.
    """
    store = ObjectStore(url)
    waiting = Path(folder_of(pl.Trainer(default_root_dir=here, logger=False, accelerator="cpu"), url))
    temporary = here / "temporary"
    temporary.mkdir()
    plan = Plan(
        waiting,
        temporary,
        lambda _: NestedCheckpoint(url, rules=[Latest(n=2, every_n_steps=2)]),
        lambda: {"default_root_dir": here},
        megabytes,
    )
    before = 0

    def moment(lines: Lines) -> None:
        """In the set-up; while a file is written; while one is sent, or after that."""
        if before and chance.random() < 0.2:
            at_once(chance)(lines)
        elif before and chance.random() < 0.3:
            in_a_write(chance, plan, 0.05)(lines)
        else:
            until(lambda: lines.closed or "resumed" in lines.read())
            known = names()
            until(lambda: time.sleep(0.01) or lines.closed or names() != known)
            time.sleep(chance.uniform(0, 0.5))

    def names() -> set[str]:
        return {str(path).rpartition("/")[2] for path in store.fs.find(store.url)}

    for _ in range(count):
        if moved := chance.random() < 0.5:
            shutil.rmtree(waiting, ignore_errors=True)
        newest, known = max({before, *look(plan).whole}), names()
        trial = run(plan, moment)
        records = store.records()
        with tempfile.TemporaryDirectory() as read:
            unsound = {each.name: why for each in records if (why := store.damage(each, Path(read)))}
        parts = [name for name in names() - known - {each.name for each in records} if name.endswith(".ckpt")]
        after = max((each.step for each in records), default=0)
        yield Life(moved, newest, trial.resumed, before, after, unsound, [*parts, *look(plan).drafts])
        before = after
