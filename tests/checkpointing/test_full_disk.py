"""Disks that are full and disks that refuse: real ones, seen from outside."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from checkpointing.faulty_store import faults
from checkpointing.killing import until
from checkpointing.marked import Marked, fault, kept, step_of, train
from lightning.pytorch.callbacks import ModelCheckpoint
from monitors.breaking import journal, warned

from lightning_debugkit import AtomicCheckpointIO, NestedCheckpoint, TrainingAnomaly
from lightning_debugkit.checkpointing.object_store import ObjectStore
from lightning_debugkit.checkpoints import Every, Latest

pytestmark = [
    pytest.mark.usefixtures("one_thread", "no_report"),
    pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning"),
]
MEGABYTE = 1_000_000


class At(pl.Callback):
    """Do something at the start of an epoch."""

    def __init__(self, **by_epoch: Callable[[], Any]) -> None:
        self.by_epoch = by_epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.by_epoch.get(f"epoch_{trainer.current_epoch}", lambda: None)()


def fit(folder: Path, *callbacks: pl.Callback, epochs: int = 6, **options: Any) -> pl.Trainer:
    """Save files of 3 MB; the journal lies beside, where there is room."""
    return train(folder, *callbacks, module=Marked(3), epochs=epochs, **options)


def found(folder: Path, name: str = "debugkit") -> list[tuple[str, int]]:
    return [(finding.rule, finding.where.step) for finding in warned(journal(folder, name))]


Disk = Callable[[float], Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mount a disk of some megabytes."""
    mounted: list[Path] = []

    def mount(megabytes: float) -> Path:
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={int(megabytes * MEGABYTE)}", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False) if os.geteuid() == 0 else None
        if done is None or done.returncode:
            pytest.skip(f"a small disk is mounted by root only: {done.stderr.strip() if done else 'this is a user'}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, leave: float) -> Path:
    """Put a file there that leaves some megabytes free."""
    free = shutil.disk_usage(folder).free
    (folder / "hog").write_bytes(b"\1" * (free - int(leave * MEGABYTE)))
    return folder / "hog"


def test_a_disk_that_fills_up_ends_no_training_and_costs_no_file(disk: Disk, tmp_path: Path) -> None:
    folder = disk(10) / "checkpoints"
    callback = NestedCheckpoint(folder, rules=[Every(epochs=1)])
    trainer = fit(tmp_path, callback)
    assert trainer.state.finished
    assert trainer.global_step == 12
    assert kept(folder) == [2, 4, 6], "three of 3 MB fit on it"
    assert found(tmp_path) == [("disk-low", 6), ("checkpoint-failed", 8)], "before it fails, when it fails, and once"
    assert step_of(Path(callback.last_model_path)) == 6
    assert step_of(folder / "last.ckpt") == 6


@pytest.mark.parametrize("async_save", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("fsync", [True, False])
def test_room_that_the_older_file_gives_is_no_lack_of_it(
    fsync: bool, async_save: bool, disk: Disk, tmp_path: Path
) -> None:
    """For a moment there are two files, and no room for a third: the older one is about to go."""
    place = disk(8)
    fit(tmp_path / "run", NestedCheckpoint(place / "checkpoints", fsync=fsync, async_save=async_save))
    assert found(tmp_path / "run") == []


@pytest.mark.parametrize("async_save", [False, True], ids=["sync", "async"])
def test_a_disk_that_is_full_in_mid_file_is_named_as_the_cause(async_save: bool, disk: Disk, tmp_path: Path) -> None:
    """Of the first file no one knows the size: it begins, and the disk refuses."""
    folder = disk(2) / "checkpoints"
    trainer = fit(tmp_path, NestedCheckpoint(folder, async_save=async_save))
    assert trainer.state.finished
    assert kept(folder) == []
    finding = warned(journal(tmp_path))[-1]
    assert finding.rule == "checkpoint-failed"
    assert "No space left on device" in finding.message
    assert finding.advice.startswith(f"Make room in {folder}")


def test_after_room_was_made_saving_goes_on(disk: Disk, tmp_path: Path) -> None:
    folder = disk(20) / "checkpoints"
    at = At(epoch_2=lambda: fill(folder.parent, leave=1), epoch_4=lambda: (folder.parent / "hog").unlink())
    fit(tmp_path, NestedCheckpoint(folder, rules=[Every(epochs=1)]), at)
    assert kept(folder) == [2, 4, 10, 12]
    assert found(tmp_path) == [("checkpoint-failed", 6)]


def test_the_new_file_takes_the_room_of_the_one_it_replaces(disk: Disk, tmp_path: Path) -> None:
    """A disk of two files is enough to always have the two latest, though a third cannot be written beside them."""
    folder = disk(7) / "checkpoints"
    fit(tmp_path, NestedCheckpoint(folder, rules=[Latest(n=2)]))
    assert kept(folder) == [10, 12]
    assert "checkpoint-failed" not in {rule for rule, _ in found(tmp_path)}


def test_the_only_file_is_not_given_for_room(disk: Disk, tmp_path: Path) -> None:
    folder = disk(5) / "checkpoints"
    fit(tmp_path, NestedCheckpoint(folder, rules=[Latest()]))
    assert kept(folder) == [2]
    assert "checkpoint-failed" in {rule for rule, _ in found(tmp_path)}


@pytest.mark.parametrize("async_save", [False, True], ids=["sync", "async"])
def test_training_stops_after_so_many_failures_if_asked_to(async_save: bool, disk: Disk, tmp_path: Path) -> None:
    folder = disk(7) / "checkpoints"
    at = At()
    with pytest.raises(TrainingAnomaly):
        fit(
            tmp_path,
            NestedCheckpoint(folder, rules=[Every(epochs=1)], raise_after=2, async_save=async_save),
            at,
            epochs=50,
        )
    assert kept(folder) == [2, 4]
    assert "checkpoint-failed" in {rule for rule, _ in found(tmp_path)}


def test_a_full_disk_ends_no_training_that_saves_beside(disk: Disk, tmp_path: Path) -> None:
    folder = disk(10) / "checkpoints"
    trainer = fit(tmp_path, NestedCheckpoint(folder, rules=[Every(epochs=1)], async_save=True))
    assert trainer.state.finished
    assert kept(folder) == [2, 4, 6]
    assert found(tmp_path)


def test_a_full_disk_leaves_no_half_file_of_a_stock_callback(disk: Disk, tmp_path: Path) -> None:
    folder = disk(10) / "checkpoints"
    with pytest.raises((OSError, RuntimeError), match=r"No space left|Errno 28|enforce fail"):
        fit(
            tmp_path,
            ModelCheckpoint(folder, monitor="step", mode="max", save_top_k=-1),
            plugins=[AtomicCheckpointIO()],
        )
    files = sorted(folder.iterdir())
    assert len(files) == 3
    assert [fault(path) for path in files] == ["", "", ""]


def test_a_limit_of_the_system_is_survived_by_a_user_too(tmp_path: Path) -> None:
    """No root needed: the kernel refuses files above a size, as a quota would, in the middle of the write."""
    folder = tmp_path / "checkpoints"
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int) -> Callable[[], None]:
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    try:
        at = At(epoch_2=limit(1 * MEGABYTE), epoch_4=limit(hard))
        trainer = fit(tmp_path, NestedCheckpoint(folder, rules=[Every(epochs=1)]), at)
    finally:
        limit(hard)()
    assert trainer.state.finished
    assert kept(folder) == [2, 4, 10, 12]
    (finding,) = warned(journal(tmp_path))
    assert (finding.rule, finding.where.step) == ("checkpoint-failed", 6)
    assert "File too large" in finding.message, "the cause, not what torch.save made of it"


@pytest.mark.parametrize("async_save", [False, True], ids=["sync", "async"])
def test_a_disk_that_turns_read_only_keeps_what_it_has(async_save: bool, disk: Disk, tmp_path: Path) -> None:
    """As ext4 does after an error of the device."""
    mounted = disk(40)

    folder = mounted / "checkpoints"

    def turn() -> None:
        """No disk turns while a file is written there: the last one is waited for."""
        assert until(lambda: any("-00000004-" in path.name for path in folder.glob("*.ckpt.json")))
        assert until(lambda: remount().returncode == 0)

    def remount() -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["mount", "-o", "remount,ro", str(mounted)], capture_output=True, check=False)

    at = At(epoch_2=turn)
    trainer = fit(tmp_path, NestedCheckpoint(folder, rules=[Every(epochs=1)], async_save=async_save), at)
    assert trainer.state.finished
    assert kept(folder) == [2, 4]
    (finding,) = warned(journal(tmp_path))
    assert finding.rule == "checkpoint-failed"
    assert "Read-only file system" in finding.message
    assert finding.advice == f"Let this process write to {folder}, or choose another dirpath."


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to any folder; the test above mounts one read-only")
def test_a_folder_without_permission_ends_no_training(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    at = At(epoch_2=lambda: folder.chmod(0o555))
    try:
        fit(tmp_path, NestedCheckpoint(folder, rules=[Latest()]), at)
    finally:
        folder.chmod(0o755)
    assert kept(folder) == [4]
    assert found(tmp_path) == [("checkpoint-failed", 6)]


class Spooled:
    """A spool on a disk of some megabytes, before a store."""

    url = "faulty://bucket/run"

    def __init__(self, disk: Path, folder: Path) -> None:
        (folder / "debugkit-spool").symlink_to(disk)
        self.disk = disk

    @property
    def waiting(self) -> list[int]:
        return sorted(step_of(path) for path in self.disk.glob("*/step-*.ckpt"))

    @property
    def sent(self) -> list[int]:
        return [record.step for record in ObjectStore(self.url).records()]


def test_a_spool_of_one_file_is_enough_before_a_store_that_answers(disk: Disk, tmp_path: Path) -> None:
    """What has arrived in the store gives its room here to the next."""
    spool = Spooled(disk(5), tmp_path)
    with faults():
        arrived = {
            f"epoch_{epoch}": lambda step=2 * epoch: until(lambda: spool.sent == [step]) for epoch in range(1, 6)
        }
        trainer = fit(tmp_path, NestedCheckpoint(spool.url, rules=[Latest()]), At(**arrived))
        assert trainer.global_step == 12
        assert spool.sent == [12]
    assert [rule for rule, _ in found(tmp_path)] == ["disk-low"]


def test_a_spool_that_is_full_before_a_store_that_is_away_keeps_what_it_has(disk: Disk, tmp_path: Path) -> None:
    spool = Spooled(disk(7), tmp_path)
    with faults(refused=-1) as store:
        trainer = fit(tmp_path, NestedCheckpoint(spool.url, rules=[Every(epochs=1)]))
        assert (trainer.state.finished, trainer.global_step) == (True, 12)
        waited = spool.waiting
        assert len(waited) == 2, "two of 3 MB fit on it"
        assert "checkpoint-failed" in {rule for rule, _ in found(tmp_path)}
        store.refused = 0
        fit(tmp_path, NestedCheckpoint(spool.url, rules=[Every(epochs=1)]), epochs=7, ckpt_path="last")
        assert set(waited) <= set(spool.sent), "the next fit sends them"
