"""Every instant of a save in turn: the process is killed there, or the disk is full."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpointing.folders import draft, hidden, opened, steps, writer
from checkpointing.newest import newest_good
from torch.distributed import checkpoint

from lightning_debugkit.checkpointing.records import read_records
from lightning_debugkit.checkpointing.repair import repair
from lightning_debugkit.checkpointing.store import Store
from lightning_debugkit.checkpointing.verification import checksums
from lightning_debugkit.checkpoints import Best, Every, Latest
from lightning_debugkit.core import atomic_files
from lightning_debugkit.core.atomic_files import draft_folder, is_full

TAKES_ROOM = (
    (Path, "mkdir"), (atomic_files, "_create"), (atomic_files, "_write"), (Path, "write_text"), (Path, "symlink_to"),
    (os, "fsync"), (torch, "save"),
)  # fmt: skip
CHANGES = (*TAKES_ROOM, (Path, "replace"), (Path, "rename"), (Path, "unlink"), (shutil, "rmtree"))
ALWAYS = {"_create", "fsync", "replace", "_write", "symlink_to"}
FORMS = {"file": {"save"}, "beside": {"save"}, "shards": {"mkdir", "rename", "write_text", "rmtree"}}


class Killed(BaseException):
    """Stands for a kill: nothing that cleans up on it would run in a killed process."""


@contextmanager
def failing(owners: tuple[tuple[Any, str], ...], at: int, error: BaseException, *, lasts: bool) -> Iterator[list[str]]:
    """Raise ``error`` in place of the n-th of these calls; give their names.

    Args:
        lasts: Whether each call after it fails, too; those of a dead process do nothing.
    """
    passed: list[str] = []

    def wrapped(real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if isinstance(error, Killed) and len(passed) >= at:
                return None
            passed.append(name)
            if len(passed) == at or (lasts and len(passed) > at):
                raise error
            return real(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in owners:
            patch.setattr(owner, name, wrapped(getattr(owner, name), name))
        yield passed


class Saves:
    """Saves of one form to their end.

    Args:
        form: A file, one that the device takes beside the training, or a folder of shards.
        rules: What stays.
        shards: The content of such a folder.
    """

    def __init__(self, form: str, rules: Any, shards: Path) -> None:
        self.form, self.rules, self.shards = form, rules, shards

    @contextmanager
    def store(self, folder: Path) -> Iterator[Store]:
        store = opened(folder, self.rules)
        with ThreadPoolExecutor(1) as pool:
            store.beside = pool if self.form == "beside" else None
            yield store

    def save(self, store: Store, step: int, loss: float) -> None:
        record = draft(step, loss)
        if self.form == "shards":
            with draft_folder(store.path(record)) as place:
                shutil.copytree(self.shards, place, dirs_exist_ok=True)
                store.save(record, place.rename, in_folder=True, shards=checksums(place))
        else:
            store.save(record, writer(record))
        store.wait()
        for _, error in store.take_lost():
            raise error

    def fault(self, store: Store, step: int, loss: float) -> Exception | None:
        try:
            self.save(store, step, loss)
        except Exception as error:
            return error
        return None

    def first_three(self, store: Store) -> set[int]:
        for step, loss in ((1, 5.0), (2, 3.0), (3, 4.0)):
            self.save(store, step, loss)
        return set(steps(store.folder))


def kept(store: Store) -> set[int]:
    return {record.step for record in store.history if record.name in store.reasons}


def without_record(folder: Path) -> list[Path]:
    return [path for path in folder.glob("step-*.ckpt") if not path.with_name(f"{path.name}.json").exists()]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    checkpoint.save({"w": torch.arange(9.0)}, checkpoint_id=folder, no_dist=True)
    torch.save({"global_step": 0}, folder / "meta.pt")
    return folder


@pytest.fixture
def saves(request: pytest.FixtureRequest, shards: Path, monkeypatch: pytest.MonkeyPatch) -> Saves:
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # no power is lost here
    return Saves(*request.param, shards)


BEST = [Best("loss", k=2), Latest()]
CASES = [(form, BEST) for form in FORMS]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "saves", [*CASES, ("beside", [Latest()]), ("beside", [Every(steps=2), Latest(n=2)])], ids=str, indirect=True
)
def test_killed_at_any_instant_the_newest_committed_one_is_found(saves: Saves, tmp_path: Path) -> None:
    """Every instant of a save that commits, links and deletes."""
    died = 0
    for at in range(1, 200):
        folder = tmp_path / str(at)
        with saves.store(folder) as store:
            before = saves.first_three(store)
            with failing(CHANGES, at, Killed(), lasts=True) as passed:
                try:
                    saves.save(store, 4, 2.0)
                except Killed:
                    died += 1
        records = read_records(folder)
        assert len(records) == len([*folder.glob("*.ckpt.json")]), "a record is whole or not there"
        committed = {record.step for record in records}
        found = newest_good(folder, lambda record, why: pytest.fail(why))
        assert found is not None
        assert found.step == max(committed) or (found.step == 4 and (folder / found.name).exists())
        assert committed <= before | {4}
        assert steps(folder), "what has a record is whole"

        repair(folder)
        assert hidden(folder) == []
        with saves.store(folder) as again:
            assert found.step in steps(folder)
            saves.save(again, 5, 1.0)
            assert 5 in steps(folder)
            assert kept(again) == set(steps(folder))
            assert without_record(folder) == []
        if len(passed) < at:
            break
    assert set(passed) >= ALWAYS | FORMS[saves.form], "the whole protocol was walked through"
    assert died == len(passed) >= 10


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("saves", CASES, ids=str, indirect=True)
@pytest.mark.parametrize("lasts", [False, True], ids=["for a moment", "from then on"])
def test_on_a_disk_that_is_full_at_any_instant_the_best_stays_and_saving_goes_on(
    saves: Saves, lasts: bool, tmp_path: Path
) -> None:
    failed = 0
    for at in range(1, 200):
        folder = tmp_path / str(at)
        with saves.store(folder) as store:
            saves.first_three(store)
            with failing(TAKES_ROOM, at, OSError(errno.ENOSPC, "No space left"), lasts=lasts) as passed:
                error = saves.fault(store, 4, 2.0)
            assert error is None or is_full(error), "the cause, not what came of it"
            assert set(steps(folder)) in ([{2, 4}] if error is None else [{2, 3}, {2}])
            failed += error is not None
            assert hidden(folder) == []
            assert [record.step for record in store.records] == steps(folder)
            saves.save(store, 5, 1.0)
            assert kept(store) == set(steps(folder))
            assert without_record(folder) == []
        if len(passed) < at:
            break
    assert bool(failed) == (lasts or saves.form != "file"), "a file is tried again once room was made"
