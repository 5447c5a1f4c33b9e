"""Training does not wait for the device, and until the device has a file none is deleted for it."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from checkpointing.folders import opened, save, steps
from checkpointing.saving import train

from lightning_debugkit import NestedCheckpoint, read_journal
from lightning_debugkit.checkpointing import store as stores
from lightning_debugkit.checkpointing.store import Store
from lightning_debugkit.checkpoints import Latest

PATIENCE = 30.0


class Device:
    """Takes a file when it is let.

    Args:
        refuses: How many files it refuses at first.
    """

    def __init__(self, refuses: int = 0) -> None:
        self.may = threading.Event()
        self.refuses = refuses
        self.asked: list[Path] = []

    def sync(self, path: Path) -> None:
        self.asked.append(path)
        assert self.may.wait(PATIENCE)
        if len(self.asked) <= self.refuses:
            raise OSError(errno.EIO, "the device does not take it", str(path))


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    device = Device()
    monkeypatch.setattr(stores, "sync_file", device.sync)
    return device


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with ThreadPoolExecutor(1) as pool:
        store = opened(tmp_path, [Latest()])
        store.beside = pool
        yield store


def test_a_save_returns_before_the_device_has_it_and_nothing_is_deleted_for_it_until_then(
    store: Store, device: Device
) -> None:
    device.may.set()
    save(store, 1)
    store.wait()
    device.may.clear()
    save(store, 2)
    assert steps(store.folder) == [1, 2]
    assert (store.folder / "last.ckpt").resolve().name == store.records[-1].name
    assert store.take_dropped() == []
    device.may.set()
    store.wait()
    assert steps(store.folder) == [2]
    assert [record.step for record in store.take_dropped()] == [1]


def test_the_next_save_waits_for_the_one_before(store: Store, device: Device) -> None:
    save(store, 1)
    next_save = threading.Thread(target=save, args=(store, 2))
    next_save.start()
    next_save.join(0.2)
    assert (next_save.is_alive(), steps(store.folder)) == (True, [1])
    device.may.set()
    next_save.join(PATIENCE)
    store.wait()
    assert steps(store.folder) == [2]


def test_what_the_device_refuses_is_not_there_and_what_it_was_to_replace_is(store: Store, device: Device) -> None:
    device.may.set()
    save(store, 1)
    store.wait()
    device.refuses = 2
    save(store, 2)
    store.wait()
    assert steps(store.folder) == [1]
    assert (store.folder / "last.ckpt").resolve().name == store.records[-1].name
    ((record, error),) = store.take_lost()
    assert (record.step, error.errno) == (2, errno.EIO)
    save(store, 3)
    store.wait()
    assert (steps(store.folder), store.take_lost()) == ([3], [])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here")
def test_a_child_is_forked_when_the_device_has_the_file_which_it_would_hold_open(store: Store, device: Device) -> None:
    save(store, 1)
    timer = threading.Timer(0.2, device.may.set)
    timer.start()
    child = os.fork()
    if not child:
        os._exit(0)
    assert device.may.is_set()
    os.waitpid(child, 0)
    timer.join()


@pytest.mark.filterwarnings("ignore")
def test_a_fit_tells_of_what_the_device_refuses_and_ends_with_what_it_took(tmp_path: Path, device: Device) -> None:
    device.may.set()
    device.refuses = 1
    train(tmp_path, NestedCheckpoint(tmp_path / "kept", [Latest()]))
    journal = read_journal(tmp_path / "debugkit")
    assert [finding.rule for finding in journal.findings] == ["checkpoint-failed"]
    assert "the device does not take it" in journal.findings[0].message
    assert len(steps(tmp_path / "kept")) == 1
    assert journal.of_kind("trouble") == []
