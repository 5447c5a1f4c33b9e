"""Folders that every rank writes a part of: kept, committed, verified and gone on from as files are."""

from __future__ import annotations

import errno
import json
import pickle
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpointing.folders import flip
from checkpointing.newest import newest_good
from checkpointing.sharding import fit, lives, newest_step, rewrite, whole
from lightning.pytorch.callbacks import Callback
from two_ranks import on_two_ranks

from lightning_debugkit import CodeSnapshot, load_model, read_journal
from lightning_debugkit.checkpointing.records import FOLDER_RECORD, read_records
from lightning_debugkit.checkpointing.repair import repair
from lightning_debugkit.checkpointing.sharded_weights import weights_of_shards
from lightning_debugkit.checkpointing.verification import DamagedCheckpoint, damage
from lightning_debugkit.checkpoints import Best, Latest
from lightning_debugkit.cli import checkpoints
from lightning_debugkit.core.distributed import told_by_all
from lightning_debugkit.provenance.carried.read_checkpoint import read_snapshot

pytestmark = [
    pytest.mark.timeout(150),
    pytest.mark.usefixtures("no_report", "no_process_left"),
    pytest.mark.filterwarnings("ignore"),
]

_done: dict[str, tuple[Path, list[Any]]] = {}


class Full(Callback):
    """On rank 1 the disk is full, in the second epoch."""

    def on_train_epoch_start(self, trainer: Any, *_: Any) -> None:
        from torch.distributed.checkpoint import FileSystemWriter

        real = FileSystemWriter.write_data
        if trainer.current_epoch == 1 and trainer.global_rank == 1:

            def fails(*args: Any, **options: Any) -> None:
                FileSystemWriter.write_data = real
                raise OSError(errno.ENOSPC, "No space left on device")

            FileSystemWriter.write_data = fails


def work(rank: int, folder: Path, kind: str) -> dict[str, Any]:
    trainer, _ = fit(folder / "first", kind, [Best("val_loss"), Latest(n=2)], CodeSnapshot(side_ref=False))
    callback: Any = trainer.checkpoint_callback
    told = {"last": callback.last_model_path, "best": callback.best_model_path}
    again, resumed = fit(folder / "first", kind, [Best("val_loss"), Latest(n=2)], ckpt_path="last", max_epochs=4)
    uninterrupted = fit(folder / "whole", kind, max_epochs=4)[1]
    equal = all(torch.equal(*pair) for pair in zip(whole(resumed), whole(uninterrupted), strict=True))
    fit(folder / "full", kind, [Latest()], Full())
    best = str(again.checkpoint_callback.best_model_path)
    return {**told, "step": again.global_step, "equal": equal, "best of both": best}


@pytest.fixture(params=["fsdp", "fsdp2"])
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """The folder of all runs of a strategy, made once, and what its two ranks say."""
    kind = str(request.param)
    if kind not in _done:
        folder = tmp_path_factory.mktemp(kind)
        _done[kind] = folder, on_two_ranks(work, folder, kind)
    return _done[kind]


@pytest.fixture
def saved(job: tuple[Path, list[Any]], tmp_path: Path) -> Path:
    """Two checkpoints, of steps 6 and 8, that may be spoiled."""
    shutil.copytree(job[0] / "first/checkpoints", tmp_path / "checkpoints", symlinks=True)
    return tmp_path / "checkpoints"


def named(folder: Path, step: int) -> Path:
    return next(folder / record.name for record in read_records(folder) if record.step == step)


def test_a_fit_goes_on_from_the_newest_folder_as_if_it_had_not_stopped(job: tuple[Path, list[Any]]) -> None:
    folder, (one, two) = job
    assert one == two
    assert (one["step"], one["equal"]) == (8, True)
    assert Path(one["last"]).name.startswith("step-00000006")
    assert one["best of both"]
    for run in ("first", "full"):
        journal = read_journal(folder / run / "debugkit")
        assert not journal.of_kind("trouble"), journal.of_kind("trouble")


def test_a_record_holds_size_and_checksum_of_every_shard(saved: Path) -> None:
    for record in read_records(saved):
        names = {path.name for path in (saved / record.name).iterdir()}
        assert set(record.shards) == names - {FOLDER_RECORD} >= {".metadata", "meta.pt", "__0_0.distcp", "__1_0.distcp"}
        assert record.size == sum(size for size, _ in record.shards.values())
        assert damage(saved / record.name, record) == ""
    assert [path.name for path in saved.glob(".*")] == [], "no draft is left"


def test_the_code_travels_in_the_folder_and_the_model_loads(saved: Path) -> None:
    path = named(saved, 6)
    assert read_snapshot(path)[0]["model"]["qualname"] == "Shared"
    model = load_model(path, code="current")
    assert sum(each.numel() for each in model.parameters()) == 4 * 9 + 9 + 9 * 2 + 2


def test_the_command_lists_and_verifies_them(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, status = checkpoints.run(str(saved))
    assert status == 0
    assert "step-00000008" in text
    flip(named(saved, 8) / "__1_0.distcp", 0.5)
    text, status = checkpoints.run(str(saved))
    assert (status, "its shard __1_0.distcp fails its CRC-32" in text) == (1, True)
    assert checkpoints.run(str(saved), quick=True)[1] == 0


class Runs:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('ran')",)


def forged(saved: Path, name: str, data: bytes) -> None:
    """A shard is replaced, and the record says so."""
    from lightning_debugkit.checkpointing.verification import checksums

    path = named(saved, 8)
    (path / name).write_bytes(data)
    rewrite(saved / f"{path.name}.json", shards={each: list(shard) for each, shard in checksums(path).items()})


def spoil(saved: Path, how: str) -> None:
    path = named(saved, 8)
    record = saved / f"{path.name}.json"
    shards = json.loads(record.read_text())["shards"]
    if how == "bit rot":
        flip(path / "__0_0.distcp", 0.3)
    elif how == "bit rot of what is no shard":
        flip(path / "meta.pt", 0.3)
    elif how == "shard missing":
        (path / "__1_0.distcp").unlink()
    elif how == "shard cut short":
        (path / "__1_0.distcp").write_bytes((path / "__1_0.distcp").read_bytes()[:-1])
    elif how == "record of others":
        rewrite(record, shards={**shards, "../../secret": [1, "00000000"]})
    elif how == "shard unnamed":
        rewrite(record, shards={name: shard for name, shard in shards.items() if name != "__1_0.distcp"})
    elif how == "hostile metadata":
        forged(saved, ".metadata", pickle.dumps(Runs()))
    elif how == "no metadata":
        (path / ".metadata").unlink()
        rewrite(record, shards={name: shard for name, shard in shards.items() if name != ".metadata"})
    else:
        (path / "__1_0.distcp").unlink()
        (path / "__1_0.distcp").symlink_to("/etc/hostname")


SAID = {
    "bit rot": "its shard __0_0.distcp fails its CRC-32",
    "bit rot of what is no shard": "its shard meta.pt fails its CRC-32",
    "shard missing": "its shard __1_0.distcp is missing",
    "shard cut short": "its shard __1_0.distcp has ",
    "record of others": "its shard ../../secret is missing",
    "shard unnamed": "its record does not name __1_0.distcp",
    "hostile metadata": "its .metadata names builtins.exec, which describes no shard",
    "no metadata": "nothing in it describes its shards",
    "link": "it cannot be read (__1_0.distcp is no file of its own)",
}


@pytest.mark.parametrize("how", SAID)
def test_a_folder_that_is_not_as_it_was_written_is_passed_over(saved: Path, how: str) -> None:
    spoil(saved, how)
    told: list[str] = []
    found = newest_good(saved, lambda record, why: told.append(why))
    assert found is not None
    assert found.step == 6
    assert [why.startswith(SAID[how]) for why in told] == [True], told


def test_without_a_record_it_is_no_checkpoint_and_one_within_makes_it_one_again(saved: Path) -> None:
    path = named(saved, 8)
    (saved / f"{path.name}.json").unlink()
    assert newest_step(saved.parent) == 8, "a kill between the two commits"
    (path / FOLDER_RECORD).unlink()
    assert newest_step(saved.parent) == 6
    done = repair(saved)
    assert [name for name, _ in done.set_aside] == [f"{path.name}.damaged"]
    assert read_records(saved)[-1].step == 6


def test_a_folder_whose_outer_record_is_lost_is_adopted(saved: Path) -> None:
    path = named(saved, 8)
    (saved / f"{path.name}.json").unlink()
    assert repair(saved).adopted == (path.name,)
    assert damage(path, read_records(saved)[-1]) == ""


def resume_on(rank: int, folder: Path, kind: str, ckpt_path: str, epochs: int) -> Any:
    try:
        trainer, module = fit(folder, kind, ckpt_path=ckpt_path, max_epochs=epochs)
    except DamagedCheckpoint as error:
        return [str(error)]
    return trainer.global_step, [tensor.tolist() for tensor in whole(module)]


@pytest.mark.parametrize("job", ["fsdp2"], indirect=True)
def test_it_loads_on_another_number_of_ranks(saved: Path) -> None:
    """Of two ranks on one, and on to two again; nothing is trained, so that the weights are those in the folder."""
    kept = weights_of_shards(named(saved, 8))
    before = [kept[f"net.{layer}.{name}"].tolist() for layer in (0, 1) for name in ("weight", "bias")]
    ((step, weights),) = on_two_ranks(resume_on, saved.parent, "one", "last", 4, count=1)
    assert (step, weights) == (8, before)
    ((step, _),) = on_two_ranks(resume_on, saved.parent, "one", "last", 5, count=1)
    assert step == 8 + 4
    answers = on_two_ranks(resume_on, saved.parent, "fsdp2", "last", 5)
    assert [step for step, _ in answers] == [12, 12]


@pytest.mark.parametrize("job", ["fsdp2"], indirect=True)
def test_one_that_is_asked_for_by_name_is_verified_too(saved: Path) -> None:
    flip(named(saved, 8) / "__1_0.distcp", 0.5)
    answers = on_two_ranks(resume_on, saved.parent, "fsdp2", str(named(saved, 8)), 5)
    assert ["fails its CRC-32; load another one." in str(answer) for answer in answers] == [True, True]


def test_a_rank_that_cannot_write_costs_one_checkpoint_and_is_named(job: tuple[Path, list[Any]]) -> None:
    folder = job[0] / "full"
    failed = [each for each in read_journal(folder / "debugkit").findings if each.rule == "checkpoint-failed"]
    assert ["rank 1: No space left on device" in each.message for each in failed] == [True]
    assert [record.step for record in read_records(folder / "checkpoints")] == [6]
    assert [path.name for path in (folder / "checkpoints").glob(".*")] == []


def ask(rank: int, patience: float) -> list[str]:
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    if rank == 1:
        return []
    try:
        return told_by_all("the shards", "mine", rank, 2, patience)
    except TimeoutError as error:
        return [str(error)]


def test_a_rank_that_tells_nothing_is_named_in_time() -> None:
    assert on_two_ranks(ask, 1.0)[0] == ["rank 1 has told nothing of the shards within 1 s"]


@pytest.mark.timeout(240)
def test_no_kill_leaves_an_unsound_checkpoint(tmp_path: Path) -> None:
    """A longer form is ``benchmarks/checkpoints.py shards``."""
    told = list(lives(tmp_path, 6, random.Random(1)))
    assert [life.unsound for life in told] == [{}] * 6
    assert all(life.after >= life.before for life in told)
    assert all(life.resumed in (None, life.before) for life in told), "the newest committed step is gone on from"
    assert max(life.after for life in told) > 0
