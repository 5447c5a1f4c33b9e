"""Shards that are written beside the training: they are of their step, and there are never fewer than when it waits."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpointing.killing import until
from checkpointing.sharding import fit, gathered, whole
from lightning.pytorch.callbacks import Callback
from two_ranks import on_two_ranks

from lightning_debugkit import read_journal
from lightning_debugkit.checkpointing.records import read_records
from lightning_debugkit.checkpointing.sharded_weights import weights_of_shards
from lightning_debugkit.checkpointing.verification import damage
from lightning_debugkit.checkpoints import Best, Every, Latest

pytestmark = [
    pytest.mark.timeout(150),
    pytest.mark.usefixtures("no_report", "no_process_left"),
    pytest.mark.filterwarnings("ignore"),
]
BESIDE = {"async_save": True}
_done: dict[str, tuple[Path, list[Any]]] = {}


class Held(Callback):
    """Rank 1 writes the shards of step 2 only when step 3 is over, and those of step 4 only when step 5 is.

    Args:
        folder: Of the checkpoints.
        fails: In the second save its disk is full.
    """

    def __init__(self, folder: Path, fails: bool = False) -> None:
        self.folder, self.fails = folder, fails
        self.step = 0
        self.was_in_time: list[bool] = []
        self.committed: dict[int, list[int]] = {}
        self.weights: dict[int, Any] = {}

    def on_fit_start(self, trainer: Any, *_: Any) -> None:
        from torch.distributed.checkpoint import FileSystemWriter

        real = FileSystemWriter.write_data

        def held(writer: Any, *args: Any, **options: Any) -> Any:
            if trainer.global_rank == 1:
                awaited = (3, 5, 0)[len(self.was_in_time)]
                self.was_in_time.append(until(lambda: self.step >= awaited, 20))
                if self.fails and len(self.was_in_time) == 2:
                    raise OSError(errno.ENOSPC, "No space left on device")
            return real(writer, *args, **options)

        FileSystemWriter.write_data = held
        self.put_back = lambda: setattr(FileSystemWriter, "write_data", real)

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        step = trainer.global_step
        self.weights[step] = [tensor.tolist() for tensor in gathered(trainer, module)]
        if step in (3, 5):
            if step == 5:  # the shards of step 2 are down since step 4; a thread of the first rank writes their record
                until(lambda: bool(read_records(self.folder)), 20)
            self.committed[step] = [record.step for record in read_records(self.folder)]
            trainer.strategy.barrier()  # both have looked
        self.step = step

    def teardown(self, *_: Any, **__: Any) -> None:
        self.put_back()


def work(rank: int, folder: Path, kind: str) -> dict[str, Any]:
    held = Held(folder / "first/checkpoints")
    fit(folder / "first", kind, [Every(steps=2)], held, keeps=BESIDE)
    resumed = fit(folder / "first", kind, [Every(steps=2)], keeps=BESIDE, ckpt_path="last", max_epochs=4)[1]
    uninterrupted = fit(folder / "whole", kind, max_epochs=4)[1]
    equal = all(torch.equal(*pair) for pair in zip(whole(resumed), whole(uninterrupted), strict=True))
    one = Held(folder / "one/checkpoints")
    fit(folder / "one", kind, [Latest()], one, keeps=BESIDE)
    fit(folder / "full", kind, [Every(steps=2)], Held(folder / "full/checkpoints", fails=True), keeps=BESIDE)
    return {
        "equal": equal,
        "in time": held.was_in_time,
        "committed": held.committed,
        "of one": one.committed,
        "weights": held.weights,
    }


@pytest.fixture(params=["fsdp2", "fsdp"])
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    kind = str(request.param)
    if kind not in _done:
        folder = tmp_path_factory.mktemp("beside")
        _done[kind] = folder, on_two_ranks(work, folder, kind)
    return _done[kind]


def test_the_training_goes_on_while_a_rank_writes_and_the_record_waits_for_it(job: tuple[Path, list[Any]]) -> None:
    one, two = job[1]
    assert two["in time"] == [True, True, True], "the steps that followed came"
    assert one["committed"] == {3: [], 5: [2]}
    assert one["of one"] == {3: [], 5: [2]}, "what the next one replaces stays until that one is committed"
    assert [record.step for record in read_records(job[0] / "first/checkpoints")] == [2, 4, 6, 8]
    assert [record.step for record in read_records(job[0] / "one/checkpoints")] == [6]


def test_the_shards_are_of_their_step_though_the_weights_have_changed_since(job: tuple[Path, list[Any]]) -> None:
    folder, (one, _) = job
    names = [f"net.{layer}.{name}" for layer in (0, 1) for name in ("weight", "bias")]
    for record in read_records(folder / "first/checkpoints")[:3]:
        assert damage(folder / "first/checkpoints" / record.name, record) == ""
        saved = weights_of_shards(folder / "first/checkpoints" / record.name)
        assert [saved[name].tolist() for name in names] == one["weights"][record.step]
    assert one["weights"][2] != one["weights"][3]


def test_a_fit_goes_on_from_them_as_if_it_had_not_stopped(job: tuple[Path, list[Any]]) -> None:
    folder, answers = job
    assert [answer["equal"] for answer in answers] == [True, True]
    for run in ("first", "one"):
        journal = read_journal(folder / run / "debugkit")
        assert (journal.findings, journal.of_kind("trouble")) == ([], [])
    assert [path.name for run in ("first", "one", "full") for path in (folder / run / "checkpoints").glob(".*")] == []


def test_a_rank_that_cannot_write_beside_the_training_costs_one_checkpoint(job: tuple[Path, list[Any]]) -> None:
    folder = job[0] / "full"
    failed = [each for each in read_journal(folder / "debugkit").findings if each.rule == "checkpoint-failed"]
    assert ["rank 1: No space left on device" in each.message for each in failed] == [True]
    assert [record.step for record in read_records(folder / "checkpoints")] == [2, 6]


def goes_on(rank: int, folder: Path, beside: bool) -> Any:
    rules = [Every(steps=2), Best("val_loss"), Latest()]
    fit(folder, "fsdp2", rules, keeps={"async_save": beside})
    trainer, _ = fit(folder, "fsdp2", rules, keeps={"async_save": beside}, ckpt_path="last", max_epochs=4)
    return trainer.global_step


@pytest.mark.usefixtures("poor_filesystem")
@pytest.mark.parametrize("beside", [False, True])
def test_shards_on_a_filesystem_without_links_and_without_rename_onto_files(beside: bool, tmp_path: Path) -> None:
    assert on_two_ranks(goes_on, tmp_path, beside) == [8, 8]
    folder = tmp_path / "checkpoints"
    found = [(record.step, damage(folder / record.name, record)) for record in read_records(folder)]
    assert found == [(2, ""), (4, ""), (6, ""), (8, "")]
    assert len(list(folder.iterdir())) == 8, "the folders and their records"
    journal = read_journal(tmp_path / "debugkit")
    assert (journal.findings, journal.of_kind("trouble")) == ([], [])
