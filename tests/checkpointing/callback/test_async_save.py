"""Saving beside the training: the same files, never fewer sound ones, and nothing left unwritten."""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from checkpointing.saving import Scored, best_k, steps, train
from lightning.pytorch.callbacks import Callback
from monitors.breaking import journal

from lightning_debugkit import NestedCheckpoint, TrainingAnomaly
from lightning_debugkit.checkpointing import serialization
from lightning_debugkit.checkpointing.records import read_records
from lightning_debugkit.checkpointing.verification import damage
from lightning_debugkit.checkpoints import Best, Every, KeepRule, Latest

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning")


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each write takes longer than an epoch; the threads that wrote are noted."""
    real, threads = serialization.save_bytes, []

    def save(checkpoint: Any, path: Path) -> None:
        threads.append(threading.current_thread().name)
        time.sleep(0.15)
        real(checkpoint, path)

    monkeypatch.setattr(serialization, "save_bytes", save)
    return threads


class Sampler(Callback):
    """Counts the sound files again and again, while training and writing go on."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.counts, self.over = folder, [], threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        while not self.over.is_set():
            before = {path.name for path in self.folder.glob("step-*.ckpt.json")}
            records = [record for record in read_records(self.folder) if record.name + ".json" in before]
            sound = [not damage(self.folder / record.name, record) for record in records]
            after = {path.name for path in self.folder.glob("step-*.ckpt.json")}
            if before == after:  # nothing was committed or deleted while we looked
                self.counts.append(sum(sound))
                assert all(sound)

    def on_train_start(self, *_: Any) -> None:
        self.thread.start()

    def on_train_end(self, *_: Any) -> None:
        self.over.set()
        self.thread.join()


def test_there_are_never_fewer_sound_files_than_the_rule_asks_for(tmp_path: Path, slow: list[str]) -> None:
    """Lightning's AsyncCheckpointIO deletes the old file while the new one is still queued."""
    sampler = Sampler(tmp_path / "checkpoints")
    rules = [Best("val_loss", k=1), Latest(n=2)]
    train(tmp_path, NestedCheckpoint(rules=rules, async_save=True), sampler, max_epochs=8)
    assert set(slow) == {"checkpoint_0"}
    grown = sampler.counts[next(i for i, count in enumerate(sampler.counts) if count == 2) :]
    assert min(grown) >= 2
    assert len(grown) > 20
    assert steps(tmp_path / "checkpoints")[-1] == 40


@pytest.mark.parametrize(
    "rules",
    [[Every(steps=2, keep=3)], [Best("val_loss", k=2, mode="max"), Every(steps=7)], [Best("val_loss", k=2)]],
    ids=str,
)
def test_the_files_that_stay_are_those_of_waiting(rules: list[KeepRule], tmp_path: Path, slow: list[str]) -> None:
    left, scored = [], []
    for name, beside in (("wait", False), ("beside", True)):
        callback = NestedCheckpoint(rules=rules, async_save=beside)
        train(tmp_path / name, callback, module=Scored([0.3, 0.5, 0.1, 0.4]), max_epochs=4)
        left.append(steps(tmp_path / name / "checkpoints"))
        scored.append(best_k(callback))
    assert left[0] == left[1]
    assert scored[0] == scored[1]


def test_a_file_holds_the_weights_of_its_step_though_training_went_on(tmp_path: Path, slow: list[str]) -> None:
    class Notes(Scored):
        def __init__(self) -> None:
            super().__init__()
            self.noted: dict[int, torch.Tensor] = {}

        def on_train_epoch_end(self) -> None:
            self.noted[self.global_step] = self.net.weight.detach().clone()

    module = Notes()
    train(tmp_path, NestedCheckpoint(rules=[Every(epochs=1)], async_save=True), module=module, max_epochs=4)
    for path in (tmp_path / "checkpoints").glob("step-*.ckpt"):
        checkpoint = torch.load(path, weights_only=True)
        assert torch.equal(checkpoint["state_dict"]["net.weight"], module.noted[checkpoint["global_step"]])
    assert sorted(module.noted) == steps(tmp_path / "checkpoints") == [5, 10, 15, 20]


def test_the_latest_is_left_out_while_a_save_is_under_way_but_for_the_last(tmp_path: Path, slow: list[str]) -> None:
    train(tmp_path, NestedCheckpoint(rules=[Latest(n=9, every_n_steps=1)], async_save=True), max_epochs=4)
    kept = steps(tmp_path / "checkpoints")
    assert kept[0] == 1
    assert kept[-1] == 20
    assert len(kept) < 9
    assert len(slow) == len(kept)


@pytest.mark.parametrize("error", [RuntimeError("of the user's"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_what_is_under_way_is_finished_when_training_breaks(
    error: BaseException, tmp_path: Path, slow: list[str]
) -> None:
    class Breaks(Scored):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            if self.global_step == 3:
                raise error

    with pytest.raises((RuntimeError, SystemExit)):
        train(tmp_path, NestedCheckpoint(rules=[Every(steps=3)], async_save=True), module=Breaks())
    assert steps(tmp_path / "checkpoints") == [3]
    assert [thread for thread in threading.enumerate() if thread.name.startswith("checkpoint")] == []


def test_a_failure_beside_the_training_is_told_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(serialization, "save_bytes", full)
    with pytest.raises(TrainingAnomaly):
        train(tmp_path, NestedCheckpoint(async_save=True, raise_after=2), max_epochs=9)
    assert [str(finding.severity) for finding in journal(tmp_path).findings] == ["warning", "error"]


def test_a_resume_finds_the_last_step(tmp_path: Path, slow: list[str]) -> None:
    train(tmp_path, NestedCheckpoint(async_save=True), max_epochs=2)
    trainer = train(tmp_path, NestedCheckpoint(async_save=True), max_epochs=3, ckpt_path="last")
    assert trainer.global_step == 15
    assert steps(tmp_path / "checkpoints") == [10, 15]


def test_the_training_is_not_changed(tmp_path: Path) -> None:
    alone, watched = Scored(), Scored()
    watched.load_state_dict(alone.state_dict())
    train(tmp_path / "alone", module=alone, enable_checkpointing=False)
    train(tmp_path / "watched", NestedCheckpoint(rules=[Every(steps=1)], async_save=True), module=watched)
    assert torch.equal(alone.net.weight, watched.net.weight)
    assert isinstance(watched, pl.LightningModule)
