"""Folders of shards in an object store: every shard an object, the record last, gone on from on another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from checkpointing.faulty_store import FaultyStore, faults
from checkpointing.sharding import fit, whole
from fsspec.implementations.local import LocalFileSystem
from torch.utils.data import DataLoader, TensorDataset
from two_ranks import on_two_ranks

from lightning_debugkit import read_journal
from lightning_debugkit.checkpointing import object_store
from lightning_debugkit.checkpointing.find_checkpoints import newest_of_all
from lightning_debugkit.checkpointing.object_store import ObjectStore
from lightning_debugkit.checkpointing.records import SUFFIX, Moment, Record
from lightning_debugkit.checkpointing.verification import checksums
from lightning_debugkit.checkpoints import Best, Latest
from lightning_debugkit.cli import checkpoints

pytestmark = [
    pytest.mark.timeout(150),
    pytest.mark.usefixtures("no_report", "no_process_left"),
    pytest.mark.filterwarnings("ignore"),
]
RULES = (Best("val_loss"), Latest(n=2))


class Bucket(LocalFileSystem):
    """A store that all processes of a machine see; it has neither rename nor links, and folders come with objects."""

    protocol = "bucket"

    def __init__(self, **options: Any) -> None:
        super().__init__(auto_mkdir=True, **options)

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return str(super()._strip_protocol(str(path).removeprefix("bucket://")))

    def mv(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError("an object store knows no rename")

    rename = move = link = symlink = mv


@pytest.fixture(autouse=True)
def bucket() -> None:
    fsspec.register_implementation("bucket", Bucket, clobber=True)


def work(rank: int, folder: Path, url: str) -> Any:
    """Two machines, one after the other; then the best is validated, which is asked for by its URL."""
    there = {"dirpath": url}
    fit(folder / "one", "fsdp2", RULES, keeps=there)
    trainer, resumed = fit(folder / "two", "fsdp2", RULES, keeps=there, ckpt_path="last", max_epochs=4)
    weights = whole(resumed)
    uninterrupted = fit(folder / "whole", "fsdp2", RULES, max_epochs=4)[1]
    equal = all(torch.equal(*pair) for pair in zip(weights, whole(uninterrupted), strict=True))
    best = str(trainer.checkpoint_callback.best_model_path)
    trainer.validate(resumed, DataLoader(TensorDataset(torch.randn(8, 4)), 4), ckpt_path="best", verbose=False)
    return trainer.global_step, equal, best


def test_another_machine_goes_on_from_shards_in_a_store(tmp_path: Path) -> None:
    url = f"bucket://{tmp_path}/bucket/run"
    answers = on_two_ranks(work, tmp_path, url)
    assert answers == [answers[0]] * 2
    step, equal, best = answers[0]
    assert (step, equal, best.startswith(url)) == (8, True, True)
    store = ObjectStore(url)
    records = store.records()
    assert {4, 6, 8} >= {record.step for record in records} >= {6, 8}
    assert [store.damage(record, tmp_path / "read") for record in records] == [""] * len(records)
    objects = {str(path.relative_to(tmp_path / "bucket/run")) for path in (tmp_path / "bucket/run").glob("**/*.*")}
    named = {f"{record.name}/{name}" for record in records for name in record.shards}
    named |= {each for record in records for each in (record.name, record.name + SUFFIX)}
    assert {name for name in objects if not (tmp_path / "bucket/run" / name).is_dir()} <= named | {"newest.json"}
    for run in ("one", "two"):
        journal = read_journal(tmp_path / run / "debugkit")
        assert (journal.findings, journal.of_kind("trouble")) == ([], [])
    assert not list(tmp_path.rglob("fetched/*"))

    newest = records[-1]
    shard = tmp_path / "bucket/run" / newest.name / "__1_0.distcp"
    held = bytearray(shard.read_bytes())
    held[len(held) // 2] ^= 1
    shard.write_bytes(held)
    text, status = checkpoints.run(url)
    assert (status, "its shard __1_0.distcp fails its CRC-32" in text) == (1, True)
    assert passed_over(tmp_path, store) == ["its shard __1_0.distcp fails its CRC-32"]
    shard.unlink()
    assert passed_over(tmp_path, store) == ["it is gone"]
    for name in (newest.name + SUFFIX, "newest.json"):
        record = tmp_path / "bucket/run" / name
        record.write_text(record.read_text().replace("__1_0.distcp", "../../stolen"))
    assert passed_over(tmp_path, store) == ["its record leads out of the folder, to '../../stolen'"]


@pytest.mark.parametrize(
    "fault", [{"halves": 1}, {"flips": 1}, {"unavailable": 1}], ids=["half of a shard", "other bytes", "503"]
)
def test_a_shard_that_does_not_arrive_whole_leaves_no_checkpoint(
    fault: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "_PAUSE", 0.001)
    folder = tmp_path / "step-00000001-0123abcd.ckpt"
    folder.mkdir()
    for name in ("__0_0.distcp", "__1_0.distcp", "meta.pt"):
        (folder / name).write_bytes(name.encode() * 100)
    shards = checksums(folder)
    record = Record(folder.name, Moment(1), size=sum(size for size, _ in shards.values()), shards=shards)
    with faults(**fault) as faulty:
        store = ObjectStore("faulty://bucket/run")
        with pytest.raises(OSError, match=r"arrived|503"):
            store.put(folder, record)
        assert store.records() == []
        store.put(folder, record)
        assert store.records() == [record]
        assert faulty.calls[-1] == f"put {record.name}{SUFFIX}", "the record comes last"
        assert checksums(store.fetch(record, tmp_path / "fetched")) == shards
        store.remove(record)
        assert faulty.calls[-4:] == [f"rm {name}" for name in (f"{record.name}{SUFFIX}", *shards)], "and goes first"
        assert FaultyStore.store == {}


def passed_over(folder: Path, store: ObjectStore) -> list[str]:
    """Look for the newest on a new machine; the one before it is found."""
    told: list[str] = []
    found = newest_of_all(folder / "three", [store], lambda record, why: told.append(why))
    assert found is not None
    assert "step-00000006" in found.name
    return told
