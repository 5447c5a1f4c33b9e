"""Disks that are full, that refuse, and that return what was never written: real ones, seen from outside."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from callbacks.breaking import journal, warned
from callbacks.saving import loader
from checkpoints.killing import Marked, fault, step_of
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_debugkit import AtomicCheckpointIO, Finding, NestedCheckpoint, TrainingAnomaly
from lightning_debugkit.checkpoints import Best, Every, Latest

pytestmark = [
    pytest.mark.usefixtures("one_thread", "no_report"),
    pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning"),
]
MEGABYTE = 1_000_000
STEPS = 2  # in an epoch


class At(pl.Callback):
    """Do something at the start of an epoch."""

    def __init__(self, **by_epoch: Callable[[], Any]) -> None:
        self.by_epoch = by_epoch
        self.resumed: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.resumed = trainer.global_step
        assert isinstance(pl_module, Marked)
        assert bool((pl_module.mark == trainer.global_step).all()), "the weights are those of the step"

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.by_epoch.get(f"epoch_{trainer.current_epoch}", lambda: None)()


def train(
    folder: Path,
    checkpoint: ModelCheckpoint,
    at: At | None = None,
    *,
    epochs: int = 6,
    megabytes: float = 3,
    ckpt_path: str | Path | None = None,
    **options: Any,
) -> pl.Trainer:
    """Fit two steps an epoch, with a validation each; the journal lies beside, where there is room."""
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        callbacks=[at or At(), checkpoint],
        **options,
    )
    trainer.fit(Marked(megabytes), loader(STEPS), loader(1), ckpt_path=ckpt_path)
    return trainer


def kept(folder: Path) -> list[int]:
    """The steps of the committed files; each is whole, and nothing else is there."""
    files = [path for path in sorted(folder.glob("*.ckpt")) if not path.is_symlink()]
    assert {path.name: fault(path) for path in files} == {path.name: "" for path in files}
    links = {name for name in ("last.ckpt", "best.ckpt") if (folder / name).is_symlink()}
    names = {path.name for path in files}
    assert {path.name for path in folder.iterdir()} == names | {f"{name}.json" for name in names} | links
    steps = sorted(json.loads((folder / f"{name}.json").read_text())["step"] for name in names)
    assert steps == sorted(map(step_of, files))
    return steps


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
    trainer = train(tmp_path, callback)
    assert trainer.state.finished
    assert trainer.global_step == 12
    assert kept(folder) == [2, 4, 6], "three of 3 MB fit on it"
    told = found(tmp_path)
    assert [rule for rule, _ in told] in (["disk-low"], ["checkpoint-failed"], ["disk-low", "checkpoint-failed"])
    assert step_of(Path(callback.last_model_path)) == 6
    assert step_of(folder / "last.ckpt") == 6


def test_after_room_was_made_saving_goes_on(disk: Disk, tmp_path: Path) -> None:
    folder = disk(20) / "checkpoints"
    at = At(epoch_2=lambda: fill(folder.parent, leave=1), epoch_4=lambda: (folder.parent / "hog").unlink())
    train(tmp_path, NestedCheckpoint(folder, rules=[Every(epochs=1)]), at)
    assert kept(folder) == [2, 4, 10, 12]
    assert "checkpoint-failed" in {rule for rule, _ in found(tmp_path)}


def test_the_new_file_takes_the_room_of_the_one_it_replaces(disk: Disk, tmp_path: Path) -> None:
    """A disk of two files is enough to always have the two latest, though a third cannot be written beside them."""
    folder = disk(7) / "checkpoints"
    train(tmp_path, NestedCheckpoint(folder, rules=[Latest(n=2)]))
    assert kept(folder) == [10, 12]
    assert "checkpoint-failed" not in {rule for rule, _ in found(tmp_path)}


def test_the_only_file_is_not_given_for_room(disk: Disk, tmp_path: Path) -> None:
    folder = disk(5) / "checkpoints"
    train(tmp_path, NestedCheckpoint(folder, rules=[Latest()]))
    assert kept(folder) == [2]
    assert "checkpoint-failed" in {rule for rule, _ in found(tmp_path)}


@pytest.mark.parametrize("async_save", [False, True], ids=["sync", "async"])
def test_training_stops_after_so_many_failures_if_asked_to(async_save: bool, disk: Disk, tmp_path: Path) -> None:
    folder = disk(7) / "checkpoints"
    at = At()
    with pytest.raises(TrainingAnomaly):
        train(
            tmp_path,
            NestedCheckpoint(folder, rules=[Every(epochs=1)], raise_after=2, async_save=async_save),
            at,
            epochs=50,
        )
    assert kept(folder) == [2, 4]
    assert "checkpoint-failed" in {rule for rule, _ in found(tmp_path)}


def test_a_full_disk_ends_no_training_that_saves_beside(disk: Disk, tmp_path: Path) -> None:
    folder = disk(10) / "checkpoints"
    trainer = train(tmp_path, NestedCheckpoint(folder, rules=[Every(epochs=1)], async_save=True))
    assert trainer.state.finished
    assert kept(folder) == [2, 4, 6]
    assert found(tmp_path)


def test_a_full_disk_leaves_no_half_file_of_a_stock_callback(disk: Disk, tmp_path: Path) -> None:
    folder = disk(10) / "checkpoints"
    with pytest.raises((OSError, RuntimeError), match=r"No space left|Errno 28|enforce fail"):
        train(
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
        trainer = train(tmp_path, NestedCheckpoint(folder, rules=[Every(epochs=1)]), at)
    finally:
        limit(hard)()
    assert trainer.state.finished
    assert kept(folder) == [2, 4, 10, 12]
    (finding,) = warned(journal(tmp_path))
    assert (finding.rule, finding.where.step) == ("checkpoint-failed", 6)
    assert "File too large" in finding.message


@pytest.mark.parametrize("async_save", [False, True], ids=["sync", "async"])
def test_a_disk_that_turns_read_only_keeps_what_it_has(async_save: bool, disk: Disk, tmp_path: Path) -> None:
    """As ext4 does after an error of the device."""
    mounted = disk(40)

    def turn() -> None:
        subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)

    folder = mounted / "checkpoints"
    callback = NestedCheckpoint(folder, rules=[Latest()], async_save=async_save)
    if async_save:
        # A file that is being written keeps the disk from turning: it turns when no write is under way.
        at = At(epoch_2=lambda: _settled(callback, turn))
    else:
        at = At(epoch_2=turn)
    trainer = train(tmp_path, callback, at)
    assert trainer.state.finished
    assert kept(folder) == [4]
    (finding,) = warned(journal(tmp_path))
    assert finding.rule == "checkpoint-failed"
    assert "Read-only file system" in finding.message
    assert finding.advice == f"Let this process write to {folder}, or choose another dirpath."


def _settled(callback: NestedCheckpoint, then: Callable[[], None]) -> None:
    import time

    folder = Path(str(callback.dirpath))
    ends = time.monotonic() + 30
    while not any("-00000004-" in path.name for path in folder.glob("*.ckpt.json")) and time.monotonic() < ends:
        time.sleep(0.01)
    time.sleep(0.2)
    then()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to any folder; the test above mounts one read-only")
def test_a_folder_without_permission_ends_no_training(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    at = At(epoch_2=lambda: folder.chmod(0o555))
    try:
        train(tmp_path, NestedCheckpoint(folder, rules=[Latest()]), at)
    finally:
        folder.chmod(0o755)
    assert kept(folder) == [4]
    assert found(tmp_path) == [("checkpoint-failed", 6)]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints of steps 2, 4 and 6, the best of which is that of step 4."""
    folder = tmp_path_factory.mktemp("sound")
    train(folder, everyday(folder), epochs=3, megabytes=0.1)
    assert kept(folder / "checkpoints") == [2, 4, 6]
    return folder


def everyday(folder: Path) -> NestedCheckpoint:
    return NestedCheckpoint(folder / "checkpoints", rules=[Every(epochs=1), Best("score"), Latest()])


def copied(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder / "checkpoints", tmp_path / "checkpoints", symlinks=True)
    return tmp_path


def file_of(folder: Path, step: int) -> Path:
    (path,) = (folder / "checkpoints").glob(f"step-{step:08d}-*.ckpt")
    return path


def resumed(folder: Path, ckpt_path: str | Path | None = "last", name: str = "debugkit") -> tuple[int, list[Finding]]:
    """The step that a fit goes on from, with the weights of that step, and what it warns of."""
    at = At()
    train(folder, everyday(folder), at, epochs=4, megabytes=0.1, ckpt_path=ckpt_path)
    assert at.resumed is not None
    return at.resumed, warned(journal(folder, name))


def flip(path: Path, at: int, bit: int = 4) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


@pytest.mark.parametrize("chance", range(12))
def test_no_bit_that_flipped_is_trained_on(chance: int, sound: Path, tmp_path: Path) -> None:
    """Wherever it lies: ``torch.load`` returns wrong numbers for each of those within a tensor."""
    folder = copied(sound, tmp_path)
    newest = file_of(folder, 6)
    where = random.Random(chance)
    flip(newest, where.randrange(newest.stat().st_size), where.randrange(8))
    step, findings = resumed(folder)
    if fault(newest) == "" and step == 6:  # between the parts of the zip there are bytes that hold nothing
        assert findings == []
        return
    assert step == 4
    assert {finding.rule for finding in findings} == {"checkpoint-repaired"}
    assert any(newest.name in finding.message for finding in findings)


@pytest.mark.parametrize("left", [-1, 0.5, 100, 0], ids=["but a byte", "half", "100 bytes", "nothing"])
def test_of_a_truncated_file_the_one_before_is_taken(left: float, sound: Path, tmp_path: Path) -> None:
    folder = copied(sound, tmp_path)
    newest = file_of(folder, 6)
    size = newest.stat().st_size
    os.truncate(newest, size - 1 if left == -1 else int(size * left) if left == 0.5 else int(left))
    step, findings = resumed(folder)
    assert step == 4
    assert any(newest.name in finding.message for finding in findings)


def test_a_hole_of_zeros_is_not_loaded(sound: Path, tmp_path: Path) -> None:
    """What a loss of power leaves of a block that never reached the device."""
    folder = copied(sound, tmp_path)
    newest = file_of(folder, 6)
    data = bytearray(newest.read_bytes())
    data[40_000:44_096] = bytes(4096)
    newest.write_bytes(data)
    assert float(torch.load(newest, weights_only=True)["state_dict"]["mark"].min()) == 0, "torch takes the zeros"
    assert resumed(folder)[0] == 4


def test_one_falls_back_as_far_as_need_be(sound: Path, tmp_path: Path) -> None:
    folder = copied(sound, tmp_path)
    for step in (4, 6):
        flip(file_of(folder, step), 50_000)
    names = [file_of(folder, step).name for step in (4, 6)]
    step, findings = resumed(folder)
    assert step == 2
    assert all(any(name in finding.message for finding in findings) for name in names)


def test_files_of_which_none_is_sound_begin_nothing_anew(sound: Path, tmp_path: Path) -> None:
    folder = copied(sound, tmp_path)
    for step in (2, 4, 6):
        flip(file_of(folder, step), 50_000)
    before = sorted(path.name for path in (folder / "checkpoints").iterdir())
    with pytest.raises(RuntimeError, match="holds 3 checkpoints and none is sound"):
        resumed(folder)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == before


@pytest.mark.parametrize("spoiled", ["", '{"v": 1, "na', "[]", "\0" * 300], ids=["empty", "half", "a list", "zeros"])
@pytest.mark.parametrize("all_of_them", [False, True], ids=["newest", "all"])
def test_a_record_that_cannot_be_read_is_as_good_as_none(
    all_of_them: bool, spoiled: str, sound: Path, tmp_path: Path
) -> None:
    """The checkpoint itself is sound, and holds what its record would say."""
    folder = copied(sound, tmp_path)
    for step in (2, 4, 6) if all_of_them else (6,):
        Path(f"{file_of(folder, step)}.json").write_text(spoiled)
    step, _ = resumed(folder)
    assert step == 6
    assert kept(folder / "checkpoints") == [2, 4, 6, 8]


def test_a_link_that_leads_nowhere_is_no_loss(sound: Path, tmp_path: Path) -> None:
    folder = copied(sound, tmp_path)
    (folder / "checkpoints" / "last.ckpt").unlink()
    (folder / "checkpoints" / "last.ckpt").symlink_to("step-00000099-gone.ckpt")
    assert resumed(folder) == (6, [])
    assert step_of(folder / "checkpoints" / "last.ckpt") == 8


def test_files_of_others_stay_as_they_are(sound: Path, tmp_path: Path) -> None:
    folder = copied(sound, tmp_path) / "checkpoints"
    mine = {
        "notes.txt": b"seed 3",
        "epoch=1-step=2.ckpt": b"of another callback",
        ".hidden.tmp": b"draft",
        "a.json": b"{",
    }
    for name, data in mine.items():
        (folder / name).write_bytes(data)
    assert resumed(tmp_path) == (6, [])
    assert {name: (folder / name).read_bytes() for name in mine} == mine
