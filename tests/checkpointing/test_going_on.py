"""Fits that go on: from the last, the best or any other file, in this process or a new one."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from checkpointing.marked import Averaged, Resumed, Scored, batches, kept, step_of, train
from lightning.pytorch.cli import LightningCLI
from monitors.breaking import journal

from lightning_debugkit import NestedCheckpoint
from lightning_debugkit.checkpoints import Best, Every, Latest

pytestmark = [
    pytest.mark.usefixtures("one_thread", "no_report"),
    pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning"),
]


def resumed(folder: Path, checkpoint: NestedCheckpoint, ckpt_path: str | Path = "last", **options: Any) -> int:
    seen = Resumed()
    train(folder, seen, checkpoint, ckpt_path=ckpt_path, **options)
    return seen.step


@pytest.mark.parametrize("async_save", [False, True], ids=["sync", "async"])
def test_best_and_last_of_a_trainer_load_the_weights_of_their_steps(async_save: bool, tmp_path: Path) -> None:
    scores = [0.5, 0.1, 0.9, 0.3]
    module = Scored(scores)
    trainer = train(
        tmp_path, NestedCheckpoint(monitor="val_loss", async_save=async_save), module=module, epochs=len(scores)
    )
    for ckpt_path, step in (("best", 4), ("last", 8), ("best", 4)):
        trainer.validate(module, batches(1), ckpt_path=ckpt_path, verbose=False)
        assert module.mark.unique().tolist() == [step]


UNKNOWN = pytest.mark.xfail(strict=True, reason="Lightning asks for the best before a callback can know its Trainer")


@pytest.mark.parametrize(
    ("given", "ckpt_path"),
    [
        pytest.param(True, "best", id="folder given, best"),
        pytest.param(True, "last", id="folder given, last"),
        pytest.param(False, "best", id="folder of the Trainer, best", marks=UNKNOWN),
        pytest.param(False, "last", id="folder of the Trainer, last"),
    ],
)
def test_best_and_last_are_found_by_a_new_process(ckpt_path: str, given: bool, tmp_path: Path) -> None:
    def callback() -> NestedCheckpoint:
        return NestedCheckpoint(tmp_path / "checkpoints" if given else None, monitor="val_loss")

    scores = [0.5, 0.1, 0.9]
    train(tmp_path, callback(), module=Scored(scores))
    step = resumed(tmp_path, callback(), ckpt_path, module=Scored(scores), epochs=4)
    assert step == {"best": 4, "last": 6}[ckpt_path]


@pytest.mark.parametrize("given", [False, True], ids=["folder of the Trainer", "folder given"])
def test_a_start_in_a_new_folder_says_where_an_earlier_one_left_checkpoints(
    given: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As a logger does that counts versions."""
    train(tmp_path / "version_0", NestedCheckpoint())
    folder = tmp_path / "version_1" / "checkpoints"
    assert resumed(tmp_path / "version_1", NestedCheckpoint(folder if given else None)) == 0
    told = [record.message for record in caplog.records if "begins anew" in record.message]
    assert len(told) == (not given)
    assert all(f"{tmp_path / 'version_0' / 'checkpoints'} has some" in line for line in told)


def test_the_last_is_the_latest_step_and_not_the_youngest_file(tmp_path: Path) -> None:
    """A copy of the folder, or a touch, changes the times that Lightning goes by."""
    folder = tmp_path / "checkpoints"
    train(tmp_path, NestedCheckpoint(folder, rules=[Every(epochs=1)]))
    for path in folder.glob("step-00000002-*"):
        os.utime(path, (4e9, 4e9))
    (folder / "last.ckpt").unlink()
    assert resumed(tmp_path, NestedCheckpoint(folder, rules=[Every(epochs=1)]), epochs=4) == 6


def test_a_fresh_run_in_a_used_folder_has_its_own_best_and_last(tmp_path: Path) -> None:
    """The old best of 0.1 is of other weights; Lightning would go on to count its file, or call the new one v1."""
    folder = tmp_path / "checkpoints"
    train(tmp_path, NestedCheckpoint(folder, monitor="val_loss"), module=Scored([0.1, 0.2, 0.3]))
    old = {path.name: path.read_bytes() for path in folder.glob("step-*.ckpt")}
    new = NestedCheckpoint(folder, monitor="val_loss")
    train(tmp_path, new, module=Scored([0.5, 0.4]), epochs=2)
    assert step_of(Path(new.best_model_path)) == 4
    assert float(new.best_model_score or math.nan) == pytest.approx(0.4)
    assert step_of(folder / "last.ckpt") == 4
    assert {name: (folder / name).read_bytes() for name in old} == old
    assert resumed(tmp_path, NestedCheckpoint(folder, monitor="val_loss"), epochs=3) == 4


def test_who_goes_back_goes_on_from_there(tmp_path: Path) -> None:
    """The branch that is left behind is of a higher step, and is not the last any more."""
    folder = tmp_path / "checkpoints"

    def rules() -> NestedCheckpoint:
        return NestedCheckpoint(folder, rules=[Every(epochs=1), Best("val_loss"), Latest()])

    train(tmp_path, rules(), module=Scored([0.5, 0.4, 0.3, 0.2, 0.1]), epochs=5)
    (second,) = folder.glob("step-00000004-*.ckpt")
    back = rules()
    assert resumed(tmp_path, back, second, module=Scored([0.5, 0.4, 0.35]), epochs=3) == 4
    assert step_of(Path(back.best_model_path)) == 6, "of this history"
    assert float(back.best_model_score or math.nan) == pytest.approx(0.35)
    assert step_of(folder / "last.ckpt") == 6
    assert kept(folder) == [2, 4, 6, 6, 8, 10], "nothing is deleted that another history may need"
    told = [finding for finding in journal(tmp_path, "debugkit-1").findings if finding.rule == "checkpoint-repaired"]
    assert len(told) == 1, "nothing is left there silently"
    assert resumed(tmp_path, rules(), module=Scored([0.5, 0.4, 0.35, 0.3]), epochs=4) == 6


def test_each_repair_is_told_though_another_was_told_before(tmp_path: Path) -> None:
    """What a run was told goes on with it; a branch left behind is not what was swept two runs ago."""
    folder = tmp_path / "checkpoints"

    def told(name: str) -> list[str]:
        found = journal(tmp_path, name).findings
        return [finding.message for finding in found if finding.rule == "checkpoint-repaired"]

    def rules() -> NestedCheckpoint:
        return NestedCheckpoint(folder, rules=[Every(epochs=1), Latest()])

    train(tmp_path, rules(), epochs=2)
    last = (folder / "last.ckpt").resolve().name
    (folder / f".{last}.0123abcd.tmp").write_bytes(b"half a file of a killed run")
    assert resumed(tmp_path, rules(), epochs=4) == 4
    assert [("unfinished" in message) for message in told("debugkit-1")] == [True]
    (third,) = folder.glob("step-00000006-*.ckpt")
    assert resumed(tmp_path, rules(), third, epochs=4) == 6
    assert [("left behind" in message) for message in told("debugkit-2")] == [True]


def test_several_callbacks_go_on_each_with_its_own(tmp_path: Path) -> None:
    scores = [0.5, 0.1, 0.9, 0.8]

    def both() -> list[NestedCheckpoint]:
        return [
            NestedCheckpoint(tmp_path / "best", monitor="val_loss"),
            NestedCheckpoint(tmp_path / "rare", rules=[Every(epochs=2)]),
        ]

    train(tmp_path, *both(), module=Scored(scores), epochs=3)
    assert (kept(tmp_path / "best"), kept(tmp_path / "rare")) == ([4, 6], [4])
    seen = Resumed()
    train(tmp_path, seen, *both(), module=Scored(scores), epochs=4, ckpt_path="last")
    assert seen.step == 6
    assert (kept(tmp_path / "best"), kept(tmp_path / "rare")) == ([4, 6, 8], [4, 8]), "what was gone on from stays"


@pytest.mark.parametrize("ckpt_path", ["last", "best", "checkpoints/last.ckpt"])
def test_the_command_line_of_lightning_goes_on_from_it(
    ckpt_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen = Resumed()

    class Data(pl.LightningDataModule):
        def train_dataloader(self) -> Any:
            return batches(2)

        def val_dataloader(self) -> Any:
            return batches(1)

    def command(*arguments: str, callbacks: Sequence[pl.Callback] = ()) -> None:
        defaults = {
            "logger": False,
            "accelerator": "cpu",
            "devices": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "callbacks": [NestedCheckpoint("checkpoints", monitor="val_mean", mode="max"), *callbacks],
        }
        LightningCLI(Averaged, Data, save_config_callback=None, trainer_defaults=defaults, args=["fit", *arguments])

    command("--trainer.max_epochs=2", "--model.width=5")
    command("--trainer.max_epochs=3", f"--ckpt_path={ckpt_path}", callbacks=[seen])
    assert seen.step == 4


def test_a_folder_that_was_moved_is_gone_on_from(tmp_path: Path) -> None:
    """Records and links name no path, so that nothing points to where it was."""
    train(tmp_path, NestedCheckpoint(tmp_path / "old", monitor="val_loss"), module=Scored([0.5, 0.1, 0.9]))
    shutil.move(tmp_path / "old", tmp_path / "new")
    callback = NestedCheckpoint(tmp_path / "new", monitor="val_loss")
    assert resumed(tmp_path, callback, module=Scored([0.5, 0.1, 0.9, 0.8]), epochs=4) == 6
    assert kept(tmp_path / "new") == [4, 6, 8], "what was gone on from stays"
    assert step_of(Path(callback.best_model_path)) == 4
    assert not (tmp_path / "old").exists()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_was_handed_over_is_written_though_the_training_breaks(error: type[BaseException], tmp_path: Path) -> None:
    class Breaks(Scored):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if self.global_step == 7:
                raise error("the training is broken off")
            return super().training_step(batch, batch_idx)

    callback = NestedCheckpoint(tmp_path / "checkpoints", rules=[Every(steps=1)], async_save=True)
    with pytest.raises((error, SystemExit)):  # Lightning makes an exit of Ctrl-C
        train(tmp_path, callback, module=Breaks(), epochs=9)
    assert kept(tmp_path / "checkpoints") == [1, 2, 3, 4, 5, 6, 7]
    assert step_of(tmp_path / "checkpoints" / "last.ckpt") == 7
