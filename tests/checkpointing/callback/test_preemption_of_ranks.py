"""Two processes that are told to end save where they are, together, and go on exactly from there."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from checkpointing.resume.interrupted import Net, causes, loader, train
from checkpointing.sharding import fit, whole
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException
from two_ranks import on_two_ranks

from lightning_debugkit import ExactResume, NestedCheckpoint, read_journal
from lightning_debugkit.checkpointing.records import read_records
from lightning_debugkit.checkpoints import Latest

pytestmark = [pytest.mark.timeout(150), pytest.mark.usefixtures("no_report"), pytest.mark.filterwarnings("ignore")]


class Told(pl.Callback):
    """Ranks get a SIGTERM in the middle of a batch: by rank, in which batch."""

    def __init__(self, **batches: int) -> None:
        self.batches = {int(rank[1:]): batch for rank, batch in batches.items()}

    def on_before_backward(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.fit_loop.total_batch_idx + 1 == self.batches.get(trainer.global_rank):
            os.kill(os.getpid(), signal.SIGTERM)


def ddp(folder: Path, name: str, *callbacks: pl.Callback, **program: Any) -> pl.LightningModule | None:
    """Fit three epochs of six batches on each rank; ``None`` if a SIGTERM ended it."""
    strategy = DDPStrategy(process_group_backend="gloo", timeout=timedelta(seconds=30))
    keeps = NestedCheckpoint(folder / "saved", **program.pop("keeps", {}))
    program = {"make": partial(loader, n=48), "devices": 2, "strategy": strategy, **program}
    (folder / name).mkdir(exist_ok=True)
    try:
        return train(folder / name, Net, callbacks=[ExactResume(), *callbacks, keeps], **program)
    except SIGTERMException:
        return None


def same(one: pl.LightningModule | None, other: pl.LightningModule | None) -> bool:
    assert one is not None
    assert other is not None
    first, second = one.state_dict(), other.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


def steps(folder: Path) -> list[int]:
    return [record.step for record in read_records(folder / "saved")]


CASES: dict[str, tuple[list[Told], dict[str, Any]]] = {
    "both, in other batches": ([Told(r0=9, r1=10)], {}),
    "the first only": ([Told(r0=9)], {}),
    "the other only": ([Told(r1=8)], {}),
    "twice in one epoch": ([Told(r0=8, r1=8), Told(r1=10)], {}),
    "at the end of an epoch": ([Told(r0=12, r1=12)], {}),
    "with validations in the epoch": (
        [Told(r0=9, r1=9)],
        {"val": partial(loader, shuffle=False, n=16), "val_check_interval": 2},
    ),
}


def preempted(rank: int, folder: Path, case: str) -> dict[str, Any]:
    told, program = CASES[case]
    uninterrupted = ddp(folder / "other", "whole", **program)
    stopped, newest = [], []
    for count, each in enumerate(told):
        more = {"ckpt_path": "last", "seed": 7} if count else {}
        stopped.append(ddp(folder, f"stopped-{count}", each, **more, **program) is None)
        newest.append(steps(folder)[-1])
    resumed = ddp(folder, "goes on", ckpt_path="last", seed=99, **program)
    handler = signal.getsignal(signal.SIGTERM)
    return {
        "stopped": stopped,
        "newest": newest,
        "same": same(uninterrupted, resumed),
        "left": handler is signal.SIG_DFL,
    }


ranks_ask = pytest.mark.skipif(
    not hasattr(pl.loops._TrainingEpochLoop, "_broadcast_sigterm_tensor"),
    reason="ranks of Lightning before 2.5.2 do not ask each other whether one was told to end",
)


@ranks_ask
@pytest.mark.parametrize("case", CASES)
def test_all_stop_before_one_batch_and_go_on_exactly(case: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one, two = on_two_ranks(preempted, tmp_path, case)
    told = CASES[case][0]
    first = [min(each.batches.values()) for each in told]
    assert one == two == {"stopped": [True] * len(told), "newest": one["newest"], "same": True, "left": True}
    for step, batch in zip(one["newest"], first, strict=True):
        assert batch <= step <= batch + 1, "within the batch, or the one that another rank was in"
    events = read_journal(tmp_path / f"stopped-{len(told) - 1}/debugkit").of_kind("artifact")
    saved = {event["step"]: event["reasons"] for event in events if event["name"] == "checkpoint"}
    assert "left by a SIGTERM" in saved[one["newest"][-1]]
    for run in ("goes on", *(f"stopped-{count}" for count in range(len(told)))):
        assert not (trouble := read_journal(tmp_path / run / "debugkit").of_kind("trouble")), trouble
    assert causes(tmp_path / "goes on") == []


def stopped_by_steps(rank: int, folder: Path) -> bool:
    uninterrupted = ddp(folder / "other", "whole")
    ddp(folder, "stopped", max_steps=9)
    return same(uninterrupted, ddp(folder, "goes on", ckpt_path="last", seed=99))


def stopped_by_time(rank: int, folder: Path) -> bool:
    class Over(pl.callbacks.Timer):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            trainer.should_stop = trainer.should_stop or trainer.global_step == 8

    uninterrupted = ddp(folder / "other", "whole")
    ddp(folder, "stopped", Over("01:00:00:00"))
    return same(uninterrupted, ddp(folder, "goes on", ckpt_path="last", seed=99))


@pytest.mark.parametrize("work", [stopped_by_steps, stopped_by_time])
def test_what_max_steps_or_a_timer_stopped_within_an_epoch_goes_on_exactly(work: Any, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert on_two_ranks(work, tmp_path) == [True, True]


def shards(rank: int, folder: Path) -> bool:
    uninterrupted = fit(folder / "whole", "fsdp2", [Latest()], ExactResume())[1]
    try:
        fit(folder / "run", "fsdp2", [Latest()], ExactResume(), Told(r1=3))
    except SIGTERMException:
        assert [record.step for record in read_records(folder / "run/checkpoints")][-1] in (3, 4)
        resumed = fit(folder / "run", "fsdp2", [Latest()], ExactResume(), ckpt_path="last")[1]
        return all(torch.equal(*pair) for pair in zip(whole(resumed), whole(uninterrupted), strict=True))
    return False


@ranks_ask
def test_shards_are_saved_at_the_signal_too(tmp_path: Path) -> None:
    assert on_two_ranks(shards, tmp_path) == [True, True]
