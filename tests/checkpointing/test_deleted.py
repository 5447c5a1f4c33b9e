"""Files, or the whole folder, that somebody deletes in mid-run: it is told, and what was lost is made anew."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpointing.killing import until
from checkpointing.saving import Scored, steps, train
from checkpointing.sharding import fit
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO
from two_ranks import on_two_ranks

from lightning_debugkit import NestedCheckpoint, read_journal
from lightning_debugkit.checkpointing import serialization
from lightning_debugkit.checkpointing import store as stores
from lightning_debugkit.checkpointing.records import read_records
from lightning_debugkit.checkpointing.verification import damage
from lightning_debugkit.checkpoints import Best, Every, Latest

pytestmark = [
    pytest.mark.timeout(150),
    pytest.mark.usefixtures("no_report", "no_process_left"),
    pytest.mark.filterwarnings("ignore"),
]


class Deletes(Callback):
    """Deletes what ``kept`` gives, on the first rank, before a batch or at the end of the training.

    What was to be saved by then is committed.
    """

    def __init__(self, folder: Path, step: int | None, kept: str = "") -> None:
        self.folder, self.step, self.kept = folder, step, kept

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step and trainer.is_global_zero:
            self.delete()

    def on_train_end(self, *_: Any) -> None:
        if self.step is None:
            self.delete()

    def delete(self) -> None:
        assert until(lambda: (self.folder / "last.ckpt").is_symlink() and not any(self.folder.glob(".*")), 20)
        if self.kept:
            next(self.folder.glob(self.kept)).unlink()
        else:
            assert until(self.is_gone, 20)

    def is_gone(self) -> bool:
        shutil.rmtree(self.folder, ignore_errors=True)  # a file that is just being written may hold it
        return not self.folder.exists()


@pytest.fixture
def quick_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has each file at once."""
    monkeypatch.setattr(stores, "sync_file", lambda path: None)


class InFolder(TorchCheckpointIO):
    """Writes a folder with a file in it."""

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        Path(path).mkdir()
        torch.save(checkpoint, Path(path) / "part.pt")


def told(folder: Path) -> list[tuple[str, str]]:
    journal = read_journal(folder / "debugkit")
    assert journal.of_kind("trouble") == []
    return [(finding.rule, str(finding.severity)) for finding in journal.findings]


@pytest.mark.usefixtures("quick_device")
@pytest.mark.parametrize("fsync", [True, False], ids=["fsync", "no fsync"])
@pytest.mark.parametrize("beside", [False, True], ids=["waits", "beside"])
@pytest.mark.parametrize("rules", [[Latest()], [Best("val_loss", k=2), Latest()], [Every(steps=5)]], ids=str)
def test_a_folder_that_is_deleted_is_told_once_and_made_anew(
    rules: Any, beside: bool, fsync: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    callback = NestedCheckpoint(folder, rules, async_save=beside, fsync=fsync)
    train(tmp_path, Deletes(folder, 7), callback, module=Scored([1.0, 2.0, 3.0]))
    assert told(tmp_path) == [("checkpoint-repaired", "warning")]
    assert "step-00000005" in read_journal(tmp_path / "debugkit").findings[0].message
    assert set(steps(folder)) >= {15}
    assert Path(callback.best_model_path).exists()
    assert (folder / "last.ckpt").resolve() == Path(callback.last_model_path)


@pytest.mark.usefixtures("quick_device")
def test_what_was_deleted_is_not_the_best_any_more(tmp_path: Path) -> None:
    """The worse ones that follow are the best there are."""
    folder = tmp_path / "kept"
    callback = NestedCheckpoint(folder, [Best("val_loss")])
    train(tmp_path, Deletes(folder, 7), callback, module=Scored([1.0, 3.0, 2.0]))
    assert steps(folder) == [15]
    assert callback.best_model_path.endswith(read_records(folder)[0].name)


@pytest.mark.usefixtures("quick_device")
def test_rare_saves_do_not_leave_the_folder_empty_for_long(tmp_path: Path) -> None:
    """What is lost is owed: the next validation saves, though no rule has its time."""
    folder = tmp_path / "kept"
    train(tmp_path, Deletes(folder, 8), NestedCheckpoint(folder, [Every(steps=6)]))
    assert told(tmp_path) == [("checkpoint-repaired", "warning")]
    assert steps(folder) == [10, 12]


def test_a_folder_that_is_deleted_before_the_device_has_the_file_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = tmp_path / "kept", stores.sync_file

    def deletes(path: Path) -> None:
        if "step-00000010" in path.name:
            shutil.rmtree(folder)
        real(path)

    monkeypatch.setattr(stores, "sync_file", deletes)
    train(tmp_path, NestedCheckpoint(folder, [Latest()]))
    assert set(told(tmp_path)) == {("checkpoint-failed", "warning"), ("checkpoint-repaired", "warning")}
    assert steps(folder) == [15]


def test_a_folder_that_is_deleted_while_a_file_is_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = tmp_path / "kept", serialization.save_bytes

    def deletes(checkpoint: Any, path: Path) -> None:
        real(checkpoint, path)
        if "step-00000010" in path.name:
            shutil.rmtree(folder)

    monkeypatch.setattr(serialization, "save_bytes", deletes)
    train(tmp_path, NestedCheckpoint(folder, [Latest()]))
    assert ("checkpoint-failed", "warning") in told(tmp_path)
    assert steps(folder) == [15]


def test_folders_of_another_writer_too(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    deletes = Deletes(folder, 7)
    train(tmp_path, deletes, NestedCheckpoint(folder, [Latest()]), plugins=[InFolder()])
    assert told(tmp_path) == [("checkpoint-repaired", "warning")]
    assert [(each.step, damage(folder / each.name, each)) for each in read_records(folder)] == [(15, "")]


@pytest.mark.parametrize("beside", [False, True], ids=["waits", "beside"])
def test_a_folder_that_is_deleted_after_the_last_save_is_told_at_the_end(beside: bool, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    deletes = Deletes(folder, None)
    callback = NestedCheckpoint(folder, [Every(steps=10)], async_save=beside)
    train(tmp_path, deletes, callback)
    assert told(tmp_path) == [("checkpoint-repaired", "warning")]
    assert callback.last_model_path == ""


@pytest.mark.usefixtures("quick_device")
def test_one_file_that_is_deleted_is_an_info_and_leaves_the_others(tmp_path: Path) -> None:
    """As somebody does who needs the room."""
    folder = tmp_path / "kept"
    deletes = Deletes(folder, 12, "step-00000005-*.ckpt")
    train(tmp_path, deletes, NestedCheckpoint(folder, [Every(epochs=1)]))
    assert told(tmp_path) == [("checkpoint-repaired", "info")]
    assert [record.step for record in read_records(folder)] == [5, 10, 15], "a record that was left is swept later"


@pytest.mark.usefixtures("quick_device")
def test_files_that_are_moved_away_again_and_again_are_told_once(tmp_path: Path) -> None:
    """As by a callback that brings them to an archive."""

    class Moves(Callback):
        def on_train_epoch_start(self, trainer: Any, *_: Any) -> None:
            for path in sorted(folder.glob("step-*.ckpt"))[:-1]:
                path.rename(tmp_path / path.name)

    folder = tmp_path / "kept"
    train(tmp_path, Moves(), NestedCheckpoint(folder, [Latest(n=2)]), max_epochs=6)
    assert told(tmp_path) == [("checkpoint-repaired", "info")]
    assert [path.name.split("-")[1] for path in sorted(tmp_path.glob("step-*.ckpt"))] == [
        f"{step:08d}" for step in (5, 10, 15, 20)
    ]


@pytest.mark.parametrize("beside", [False, True], ids=["waits", "beside"])
def test_a_run_whose_files_go_by_its_own_rules_alone_tells_nothing(beside: bool, tmp_path: Path) -> None:
    rules = [Best("val_loss", k=2), Latest(n=2, every_n_steps=1), Every(steps=4, keep=1)]
    train(tmp_path, NestedCheckpoint(tmp_path / "kept", rules, async_save=beside), max_epochs=6)
    assert told(tmp_path) == []


def deleted_shards(rank: int, folder: Path, beside: bool) -> int:
    deletes = Deletes(folder / "checkpoints", 3)
    trainer, _ = fit(folder, "fsdp2", [Latest()], deletes, keeps={"async_save": beside})
    return trainer.global_step


@pytest.mark.parametrize("beside", [False, True], ids=["waits", "beside"])
def test_a_folder_of_shards_that_is_deleted_is_told_and_made_anew(beside: bool, tmp_path: Path) -> None:
    assert on_two_ranks(deleted_shards, tmp_path, beside) == [6, 6]
    assert told(tmp_path) == [("checkpoint-repaired", "warning")]
    folder = tmp_path / "checkpoints"
    assert [(each.step, damage(folder / each.name, each)) for each in read_records(folder)] == [(6, "")]
