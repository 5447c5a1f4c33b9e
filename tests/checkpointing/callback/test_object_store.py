"""Checkpoints in object stores: what rules keep is there, whole, and a store that fails stops no training."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import lightning.pytorch as pl
import pytest
import torch
from checkpointing.faulty_store import FaultyStore, faults
from checkpointing.killing import until
from checkpointing.saving import Scored, loader, step_of, train
from lightning.pytorch.callbacks import Callback

from lightning_debugkit import NestedCheckpoint, read_journal
from lightning_debugkit.checkpointing import mirror, object_store
from lightning_debugkit.checkpointing.find_checkpoints import StoreAway
from lightning_debugkit.checkpointing.object_store import ObjectStore
from lightning_debugkit.checkpointing.verification import DamagedCheckpoint
from lightning_debugkit.checkpoints import Best, Every, Latest
from lightning_debugkit.cli import checkpoints

pytestmark = [pytest.mark.timeout(60), pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("no_report")]

SCORES = [3.0, 1.0, 2.0]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "RETRY", 0.02)
    monkeypatch.setattr(object_store, "_PAUSE", 0.001)


@pytest.fixture
def url() -> Iterator[str]:
    """A store in memory, empty and of this test alone."""
    name = f"memory://bucket-{uuid4().hex[:8]}/run"
    yield name
    fs, root = fsspec.core.url_to_fs(name)
    if fs.exists(root):
        fs.rm(root, recursive=True)


def there(url: str) -> list[int]:
    """The steps in a store, each of which must be whole, load and be all that is there beside its record."""
    store = ObjectStore(url)
    records = store.records()
    for record in records:
        with store.fs.open(store.path(record.name)) as file:
            assert torch.load(file, weights_only=True)["global_step"] == record.step
    names = {str(path).rpartition("/")[2] for path in store.fs.ls(store._place[1], detail=False)}
    assert names == {each for record in records for each in (record.name, f"{record.name}.json")} | {"newest.json"}
    return [record.step for record in records]


def spool(folder: Path) -> list[int]:
    return sorted(step_of(str(path)) for path in folder.glob("debugkit-spool/*/step-*.ckpt"))


def test_the_store_has_what_the_rules_keep(url: str, tmp_path: Path) -> None:
    keeps = NestedCheckpoint(url, rules=[Every(steps=5, keep=1), Best("val_loss"), Latest()])
    train(tmp_path, keeps, module=Scored(SCORES))
    assert there(url) == [10, 15]
    assert spool(tmp_path) == [15], "here only the newest stays"
    assert (step_of(keeps.best_model_path), keeps.best_model_path.startswith(url)) == (10, True)
    assert (step_of(keeps.last_model_path), keeps.last_model_path.startswith(url)) == (15, True)
    journal = read_journal(tmp_path / "debugkit")
    assert (journal.findings, journal.of_kind("trouble")) == ([], [])


def test_another_machine_goes_on_straight_from_the_store(url: str, tmp_path: Path) -> None:
    rules = [Best("val_loss"), Latest()]
    train(tmp_path / "one", NestedCheckpoint(url, rules=rules), module=Scored(SCORES))
    again = NestedCheckpoint(url, rules=rules)
    trainer = train(tmp_path / "two", again, module=Scored([5.0]), ckpt_path="last", max_epochs=4)
    assert trainer.global_step == 20
    assert there(url) == [10, 15, 20], "the file it was resumed from stays"
    assert spool(tmp_path / "two") == [20]
    assert list((tmp_path / "two").rglob("fetched")) == []
    third = NestedCheckpoint(url, rules=rules)
    assert step_of(third.best_model_path) == 10
    tester = pl.Trainer(default_root_dir=tmp_path / "three", callbacks=[third], logger=False, accelerator="cpu")
    module = Scored()
    module.test_step = lambda batch, batch_idx: None
    tester.test(module, loader(), ckpt_path="best", verbose=False)


def test_some_rules_here_and_the_best_in_the_store(url: str, tmp_path: Path) -> None:
    keeps = NestedCheckpoint(tmp_path / "here", rules=[Every(steps=7), Best("val_loss", k=2, to=url)])
    train(tmp_path, keeps, module=Scored(SCORES))
    assert there(url) == [10, 15]
    assert [step_of(str(path)) for path in sorted((tmp_path / "here").glob("step-*.ckpt"))] == [7, 14]
    assert step_of(keeps.best_model_path) == 10
    reasons = {
        event["step"]: event["reasons"]
        for event in read_journal(tmp_path / "debugkit").of_kind("artifact")
        if event["name"] == "checkpoint"
    }
    assert {step: bool(why) for step, why in reasons.items()} == {7: True, 10: True, 14: True, 15: True}


class Last(Callback):
    """Sets an event in the last batch."""

    def __init__(self, event: threading.Event) -> None:
        self.event = event

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 14:
            self.event.set()


def test_a_slow_store_holds_nobody_up(tmp_path: Path) -> None:
    held = threading.Event()
    with faults(held=held):
        train(tmp_path, Last(held), NestedCheckpoint("faulty://bucket/run", rules=[Latest()]))
        assert there("faulty://bucket/run") == [15]
        assert spool(tmp_path) == [15]


def test_behind_a_slow_store_the_training_waits_before_a_file_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each put takes longer than the steps between two saves; every file arrives."""
    real = FaultyStore._put

    def slow(self: FaultyStore, path: str, data: bytes) -> None:
        time.sleep(0.03)
        real(self, path, data)

    monkeypatch.setattr(FaultyStore, "_put", slow)
    with faults():
        train(tmp_path, NestedCheckpoint("faulty://bucket/run", rules=[Every(steps=1)]))
        assert there("faulty://bucket/run") == list(range(1, 16))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"refused": 3}, "ConnectionRefusedError: [Errno 111] Connection refused"),
        ({"unavailable": 2}, "503"),
        ({"halves": 1}, "have arrived"),
        ({"flips": 1}, "other bytes have arrived than were sent"),
        ({"kept": 1}, "Internal error"),
    ],
    ids=["refused", "503", "half-written", "flipped", "not deleted"],
)
def test_what_fails_is_told_once_tried_again_and_comes_right(fault: Any, said: str, tmp_path: Path) -> None:
    with faults(**fault) as store:
        train(tmp_path, NestedCheckpoint("faulty://bucket/run", rules=[Latest()]), max_epochs=6)
        # What the end of the fit could not send or delete waits for the next one.
        trainer = train(
            tmp_path, NestedCheckpoint("faulty://bucket/run", rules=[Latest()]), ckpt_path="last", max_epochs=7
        )
        assert trainer.global_step == 35
        assert there("faulty://bucket/run")[-1] == 35
        assert len(there("faulty://bucket/run")) <= 2, "the newest, and the one resumed from"
        told = [each for each in read_journal(tmp_path / "debugkit").findings if each.rule == "checkpoint-failed"]
        assert len(told) == 1
        assert "faulty://bucket/run cannot be reached" in told[0].message
        assert said in told[0].message
        assert store.calls[0].endswith(".ckpt"), "the object before its record"


def test_a_store_that_stays_away_costs_nothing_but_its_copies(tmp_path: Path) -> None:
    with faults(refused=-1) as store:
        trainer = train(tmp_path, NestedCheckpoint("faulty://bucket/run", rules=[Every(steps=1)]))
        assert trainer.global_step == 15
        assert FaultyStore.store == {}
        assert spool(tmp_path) == [13, 14, 15], "the newest wait here, bounded"
        store.refused = 0
        train(tmp_path, NestedCheckpoint("faulty://bucket/run", rules=[Every(steps=1)]), ckpt_path="last", max_epochs=3)
        assert there("faulty://bucket/run") == [13, 14, 15], "and are sent by the next fit"


class At(Callback):
    """Does something before the batch of a step."""

    def __init__(self, **by_step: Callable[[], object]) -> None:
        self.by_step = by_step

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        self.by_step.get(f"step_{trainer.global_step}", lambda: None)()


def test_a_bucket_that_vanishes_in_mid_run_gets_what_waited_when_it_comes_back(tmp_path: Path) -> None:
    """All that it had is gone, the best among it; it answers 503, then it is there again, empty."""
    with faults() as store:

        def vanish() -> None:
            assert until(lambda: [each.step for each in ObjectStore("faulty://bucket/run").records()] == [5, 6])
            FaultyStore.store.clear()
            store.unavailable = -1

        def come_back() -> None:
            assert spool(tmp_path) == [8, 10]
            store.unavailable = 0

        keeps = NestedCheckpoint("faulty://bucket/run", rules=[Best("val_loss"), Latest(n=2, every_n_steps=2)])
        train(tmp_path, At(step_7=vanish, step_11=come_back), keeps, module=Scored([1.0, 3.0, 2.0]))
        assert there("faulty://bucket/run") == [14, 15]
        assert keeps.best_model_path.startswith("faulty://bucket/run/step-00000015"), "the best that there is"
    told = {each.rule: each for each in read_journal(tmp_path / "debugkit").findings}
    assert sorted(told) == ["checkpoint-failed", "checkpoint-repaired"]
    assert "503" in told["checkpoint-failed"].message
    assert told["checkpoint-repaired"].message.startswith("in faulty://bucket/run: forgot step-00000005-")
    assert read_journal(tmp_path / "debugkit").of_kind("trouble") == []


def test_a_store_that_was_away_and_has_what_it_had_is_sent_nothing_twice(tmp_path: Path) -> None:
    with faults() as store:

        def go() -> None:
            assert until(lambda: [each.step for each in ObjectStore("faulty://bucket/run").records()] == [5])
            store.refused = -1

        def come() -> None:
            # The second time the first has been refused for sure.
            assert until(lambda: sum(call.startswith("put step-00000010") for call in store.calls) > 1)
            store.refused = 0

        keeps = NestedCheckpoint("faulty://bucket/run", rules=[Every(steps=5)])
        train(tmp_path, At(step_9=go, step_12=come), keeps)
        assert there("faulty://bucket/run") == [5, 10, 15]
        assert sum(call.startswith("put step-00000005") for call in store.calls) == 2, "the object and its record"
    assert [each.rule for each in read_journal(tmp_path / "debugkit").findings] == ["checkpoint-failed"]


def test_what_a_late_listing_does_not_show_is_found_all_the_same(tmp_path: Path) -> None:
    with faults() as store:
        train(tmp_path / "one", NestedCheckpoint("faulty://bucket/run", rules=[Latest(n=2)]))
        old, new = (record.name for record in ObjectStore("faulty://bucket/run").records())
        store.listing = [old, f"{old}.json", "step-00000001-ffffffff.ckpt.json"]
        keeps = NestedCheckpoint("faulty://bucket/run", rules=[Latest(n=2)])
        trainer = train(tmp_path / "two", keeps, ckpt_path="last", max_epochs=4)
        assert keeps._session is not None
        assert keeps._session.parent is not None
        assert (keeps._session.parent.name, trainer.global_step) == (new, 20)


def test_bits_that_rot_in_the_store_are_passed_over(url: str, tmp_path: Path) -> None:
    train(tmp_path / "one", NestedCheckpoint(url, rules=[Latest(n=2)]))
    store = ObjectStore(url)
    newest = store.records()[-1]
    data = bytearray(store.fs.cat_file(store.path(newest.name)))
    data[len(data) // 2] ^= 1
    store.fs.pipe_file(store.path(newest.name), bytes(data))
    text, status = checkpoints.run(url)
    assert (status, "fails its CRC-32" in text or "cannot be read" in text) == (1, True)
    assert checkpoints.run(url, quick=True)[1] == 0
    with pytest.raises(DamagedCheckpoint, match="is damaged"):
        train(tmp_path / "two", NestedCheckpoint(url), ckpt_path=f"{url}/{newest.name}", max_epochs=4)
    keeps = NestedCheckpoint(url, rules=[Latest(n=2)])
    train(tmp_path / "three", keeps, ckpt_path="last", max_epochs=4)
    assert keeps._session is not None
    assert keeps._session.parent is not None
    assert keeps._session.parent.step == 10


def test_a_store_that_cannot_be_asked_is_no_empty_one(tmp_path: Path) -> None:
    with faults(refused=-1), pytest.raises(StoreAway) as caught:
        train(tmp_path, NestedCheckpoint("faulty://bucket/run"), ckpt_path="last")
    assert str(caught.value) == (
        "faulty://bucket/run cannot be asked for its checkpoints (ConnectionRefusedError: [Errno 111] Connection "
        "refused); try again when it is there, or leave ckpt_path out to begin anew."
    )


def test_checkpoints_of_other_fits_in_the_store_stay(url: str, tmp_path: Path) -> None:
    for run in ("one", "two"):
        train(tmp_path / run, NestedCheckpoint(url, rules=[Latest()]))
    assert there(url) == [15, 15]


@pytest.mark.parametrize("given", ["nowhere://bucket/run", "absent://bucket/run"])
def test_a_store_without_its_package_is_refused_at_once(given: str) -> None:
    fsspec.register_implementation("absent", "no_such_package.Store", clobber=True, errtxt="Install no-such-package")
    for make in (lambda: NestedCheckpoint(given), lambda: Best("loss", to=given)):
        with pytest.raises(ValueError, match="needs a package for"):
            make()
    with pytest.raises(ValueError, match=r"^Latest needs to as the URL of an object store, got 'here'"):
        Latest(to="here")
