"""The protocol of S3, spoken by moto's server on this machine; both packages are in the extra `s3-test`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from checkpointing.killing import until
from checkpointing.saving import Scored, train
from checkpointing.sending import lives

from lightning_debugkit import NestedCheckpoint, read_journal
from lightning_debugkit.checkpointing.object_store import ObjectStore, stored_md5
from lightning_debugkit.checkpoints import Best, Every, Latest

pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")

pytestmark = [pytest.mark.timeout(120), pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("no_report")]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import fsspec

    moto = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": f"http://{host}:{port}"})
    fs = fsspec.filesystem("s3")
    yield fs
    fs.clear_instance_cache()
    moto.stop()


def test_a_run_is_kept_there_and_gone_on_from(s3: Any, tmp_path: Path) -> None:
    url = "s3://bucket/run"
    s3.mkdir("bucket")
    rules = [Every(steps=7), Best("val_loss"), Latest()]
    train(tmp_path / "one", NestedCheckpoint(url, rules=rules), module=Scored([3.0, 1.0, 2.0]))
    store = ObjectStore(url)
    assert [record.step for record in store.records()] == [7, 10, 14, 15]
    assert [store.damage(record, tmp_path / "read") for record in store.records()] == [""] * 4
    assert stored_md5(s3.info(store.path(store.records()[0].name))), "what has arrived was compared by it"
    keeps = NestedCheckpoint(url, rules=rules)
    trainer = train(tmp_path / "two", keeps, ckpt_path="last", max_epochs=4)
    assert trainer.global_step == 20
    assert keeps.last_model_path.startswith(url)
    for run in ("one", "two"):
        assert read_journal(tmp_path / run / "debugkit").findings == []


def test_a_prefix_of_two_runs_with_signs_that_urls_escape(s3: Any, tmp_path: Path) -> None:
    url = "s3://signs/run=1 lr+0.1/ä#ü?&%41"
    s3.mkdir("signs")
    for run in ("one", "two"):
        train(tmp_path / run, NestedCheckpoint(url, rules=[Latest()]))
    trainer = train(tmp_path / "three", NestedCheckpoint(url, rules=[Latest()]), ckpt_path="last", max_epochs=4)
    store = ObjectStore(url)
    assert trainer.global_step == 20
    assert [record.step for record in store.records()] == [15, 15, 20], "that of the other, and that it went on from"
    assert [store.damage(record, tmp_path / "read") for record in store.records()] == [""] * 3


def test_keys_that_expire_cost_nothing_but_the_copies(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def denied(*args: Any, **options: Any) -> Any:
        raise PermissionError("The provided token has expired.")

    class Expires(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            if trainer.global_step == 6:
                patch.setattr(type(s3), "_call_s3", denied)

    url, rules = "s3://keys/run", [Latest(every_n_steps=2)]
    s3.mkdir("keys")
    with monkeypatch.context() as patch:
        trainer = train(tmp_path, Expires(), NestedCheckpoint(url, rules=rules))
    assert trainer.global_step == 15
    (told,) = read_journal(tmp_path / "debugkit").findings
    assert "The provided token has expired." in told.message
    train(tmp_path, NestedCheckpoint(url, rules=rules), ckpt_path="last", max_epochs=4)
    records = ObjectStore(url).records()
    assert [record.step for record in records] == [15, 20], "what had waited was sent by the next fit"
    assert [ObjectStore(url).damage(record, tmp_path / "read") for record in records] == ["", ""]


def test_a_bucket_that_is_not_there_stops_no_training(s3: Any, tmp_path: Path) -> None:
    trainer = train(tmp_path, NestedCheckpoint("s3://no-such-bucket/run", rules=[Latest()]))
    assert trainer.global_step == 15
    (told,) = read_journal(tmp_path / "debugkit").findings
    assert told.message.startswith("s3://no-such-bucket/run cannot be reached")


def test_a_bucket_that_is_deleted_in_mid_run_gets_what_waited_when_it_is_made_again(s3: Any, tmp_path: Path) -> None:
    url = "s3://brief/run"
    s3.mkdir("brief")

    class Brief(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
            if trainer.global_step == 7:
                assert until(lambda: [record.step for record in ObjectStore(url).records()] == [5, 6])
                s3.rm("brief", recursive=True)
                assert not s3.exists("brief")
            if trainer.global_step == 11:
                s3.mkdir("brief")

    keeps = NestedCheckpoint(url, rules=[Best("val_loss"), Latest(n=2, every_n_steps=2)])
    train(tmp_path, Brief(), keeps, module=Scored([1.0, 3.0, 2.0]))
    store = ObjectStore(url)
    assert [(record.step, store.damage(record, tmp_path / "read")) for record in store.records()] == [
        (14, ""),
        (15, ""),
    ]
    journal = read_journal(tmp_path / "debugkit")
    assert sorted(each.rule for each in journal.findings) == ["checkpoint-failed", "checkpoint-repaired"]
    assert journal.of_kind("trouble") == []


@pytest.mark.usefixtures("no_process_left")
def test_no_kill_leaves_an_unsound_checkpoint_there(s3: Any, tmp_path: Path) -> None:
    """A longer form is ``benchmarks/checkpoints.py store``."""
    s3.mkdir("lives")
    told = list(lives("s3://lives/run", tmp_path, 8, random.Random(1)))
    assert [life.unsound for life in told] == [{}] * 8
    assert all(life.after >= life.before for life in told)
    assert all(life.resumed in (None, life.newest) for life in told), "the newest here or there is gone on from"
    assert max(life.after for life in told) > 0
