"""No kill loses a checkpoint: fits that save in every other step are killed at random, and go on from what is left."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from checkpointing.killing import STEPS_AN_EPOCH, Left, Plan, look, moments, run
from checkpointing.marked import fault, score, step_of
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_debugkit import AtomicCheckpointIO, NestedCheckpoint
from lightning_debugkit.checkpoints import Best, Every, Latest

pytestmark = pytest.mark.usefixtures("one_thread", "no_process_left")
TRIALS = 16
RARE = 6
RULES = [Every(steps=RARE), Best("score", k=2), Latest(n=2, every_n_steps=2)]


def promised(newest: int) -> set[int]:
    """The steps that the rules keep whatever happens, by the definition of ``score`` alone."""
    judged = range(STEPS_AN_EPOCH, newest + 1, STEPS_AN_EPOCH)
    return {*range(RARE, newest + 1, RARE), *sorted(judged, key=score)[:2], newest} - {0}


def newest(steps: set[int]) -> int:
    return max(steps, default=0)


@pytest.fixture(params=["same", "other"])
def temporary(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder for temporary files: on the filesystem of the checkpoints, or on another."""
    if request.param == "same":
        (tmp_path / "temporary").mkdir()
        yield tmp_path / "temporary"
        return
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is no filesystem beside that of the test's folder")
    folder = Path(tempfile.mkdtemp(dir=memory))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("async_save", [False, True], ids=["sync", "async"])
def test_no_kill_loses_what_the_rules_keep(async_save: bool, temporary: Path, tmp_path: Path) -> None:
    plan = Plan(
        tmp_path / "checkpoints",
        temporary,
        lambda folder: NestedCheckpoint(folder, rules=RULES, async_save=async_save),
    )
    chance = random.Random(f"{async_save}{temporary.name == 'temporary'}")
    struck = 0
    before = Left()
    for _, moment in zip(range(TRIALS), moments(chance, plan), strict=False):
        trial = run(plan, moment)
        left = look(plan)
        assert not trial.ended
        assert left.broken == {}, "a file has the name of a checkpoint only when it is whole"
        assert left.loose == [], "no record without its file"
        assert promised(newest(left.committed)) <= left.whole
        assert newest(left.committed) >= newest(before.committed | {trial.saved or 0})
        assert trial.resumed in (None, newest(before.whole)), "the newest whole file is gone on from"
        struck += bool(left.drafts or left.whole - left.committed)
        before = left
    assert struck > 0, "no kill fell into a write"

    end = (newest(before.whole) // STEPS_AN_EPOCH + 3) * STEPS_AN_EPOCH
    trial = run(plan, None, last_step=end, patience=600)
    left = look(plan)
    assert trial.ended
    assert left.drafts == [], "what the killed ones left is swept, and nothing is left in the temporary folder"
    assert (left.broken, left.loose, left.whole) == ({}, [], left.committed)
    assert promised(end) <= left.whole
    extra = left.whole - promised(end)
    assert extra <= {trial.resumed, end - 2} if not async_save else len(extra - {trial.resumed}) <= 1
    assert step_of(plan.folder / "last.ckpt") == end
    assert step_of(plan.folder / "best.ckpt") == min(range(STEPS_AN_EPOCH, end + 1, STEPS_AN_EPOCH), key=score)


def test_atomic_io_makes_the_files_of_a_stock_callback_whole(temporary: Path, tmp_path: Path) -> None:
    def stock(folder: Path) -> ModelCheckpoint:
        return ModelCheckpoint(
            folder,
            monitor="step",
            mode="max",
            save_top_k=2,
            save_last=True,
            every_n_train_steps=2,
            save_weights_only=False,
        )

    plan = Plan(tmp_path / "checkpoints", temporary, stock, lambda: {"plugins": [AtomicCheckpointIO()]})
    before = 0
    for _, moment in zip(range(TRIALS // 2), moments(random.Random(3), plan), strict=False):
        trial = run(plan, moment)
        left = look(plan)
        assert left.broken == {}
        assert trial.resumed is None or trial.resumed >= before - 2, (
            "last.ckpt is whole, and of this save or the one before"
        )
        before = newest(left.whole)
    assert before > 0


def test_the_judge_sees_what_is_broken(tmp_path: Path) -> None:
    """One that sees nothing would always pass."""
    path = tmp_path / "step.ckpt"

    def reason(marks: torch.Tensor, spoil: bytes | None = None, cut: int = 0) -> str:
        torch.save({"global_step": 3, "state_dict": {"mark": marks}}, path)
        data = bytearray(path.read_bytes())
        if spoil:
            at = data.index(torch.full((2,), 3.0).numpy().tobytes()) + 400
            data[at : at + len(spoil)] = spoil
        path.write_bytes(data[: len(data) - cut])
        return fault(path)

    sound = torch.full((1000,), 3.0)
    assert reason(sound) == ""
    assert reason(sound, spoil=b"\1") == "step/data/0 does not have its sum"
    assert reason(sound, cut=1) == "BadZipFile: File is not a zip file"
    assert reason(torch.cat([sound, sound - 1])) == "holds [2.0, 3.0] at step 3"
