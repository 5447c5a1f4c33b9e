"""A record names a whole file, what no rule keeps goes, and the last sound file stays."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpointing.folders import draft, flip, hidden, opened, save, steps, writer
from checkpointing.newest import newest_good

from lightning_debugkit.checkpointing import store as stores
from lightning_debugkit.checkpointing.records import read_records
from lightning_debugkit.checkpointing.repair import read_manifest
from lightning_debugkit.checkpointing.store import Store
from lightning_debugkit.checkpointing.verification import damage, mismatch
from lightning_debugkit.checkpoints import Best, Latest, Record


def test_a_saved_file_loads_and_its_record_tells_what_it_is(tmp_path: Path) -> None:
    store = opened(tmp_path / "new" / "folder")
    record = save(store, 3, 0.5)
    path = store.path(record)
    assert torch.load(path, weights_only=False)["state_dict"]["w"][0] == 3
    assert (record.size, record.metrics) == (path.stat().st_size, {"loss": 0.5})
    assert read_records(store.folder) == [record]
    assert Record.from_plain(read_manifest(path)["checkpoint"]) == draft(3, 0.5)


def test_links_lead_to_the_latest_and_the_best_and_a_foreign_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_text("mine")
    store = opened(tmp_path, [Best("loss"), Latest()])
    save(store, 1, 0.5), save(store, 2, 0.9)
    assert (tmp_path / "last.ckpt").read_text() == "mine"
    assert (tmp_path / "best.ckpt").resolve().name == draft(1).name
    (tmp_path / "last.ckpt").unlink()
    save(store, 3, 0.7)
    assert (tmp_path / "last.ckpt").resolve().name == draft(3).name
    assert (tmp_path / "best.ckpt").resolve().name == draft(1).name
    assert steps(tmp_path) == [1, 3]


def test_a_checkpoint_is_never_overwritten(tmp_path: Path) -> None:
    store = opened(tmp_path)
    save(store, 1)
    before = store.path(draft(1)).read_bytes()
    with pytest.raises(FileExistsError):
        store.save(draft(1), writer(draft(2)))
    assert store.path(draft(1)).read_bytes() == before


def test_files_of_other_fits_and_of_others_stay(tmp_path: Path) -> None:
    other = Store(tmp_path, [Latest()], "ffffffff")
    record = draft(9, run="ffffffff")
    other.save(record, writer(record))
    (tmp_path / "epoch=1.ckpt").write_text("of another callback")
    (tmp_path / "notes.json").write_text("{}")
    store = opened(tmp_path)
    for step in range(4):
        save(store, step)
    assert [each.name for each in store.aside] == [record.name]
    assert {path.name for path in tmp_path.iterdir()} >= {"epoch=1.ckpt", "notes.json", record.name, draft(3).name}
    assert steps(tmp_path) == [3, 9]


def failing(times: int, error: Exception) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """A write that leaves half a file and fails, ``times`` times."""
    left = [times]

    def wrap(write: Callable[[Path], None]) -> Callable[[Path], None]:
        def wrapped(path: Path) -> None:
            if left[0]:
                left[0] -= 1
                path.write_bytes(b"half")
                raise error
            write(path)

        return wrapped

    return wrap


def torch_on_a_full_disk() -> Exception:
    """As torch reports it: a RuntimeError, with the reason beneath."""
    error = RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")
    error.__context__ = OSError(errno.ENOSPC, "No space left on device")
    return error


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "full"), OSError(errno.EDQUOT, "quota"), OSError(errno.EROFS, "ro"), torch_on_a_full_disk()],
    ids=["full", "quota", "read-only", "torch"],
)
def test_a_write_that_fails_leaves_no_trace(error: Exception, tmp_path: Path) -> None:
    store = opened(tmp_path)
    save(store, 1)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(type(error)):
        store.save(draft(2), failing(9, error)(writer(draft(2))))
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (steps(tmp_path), store.take_dropped()) == ([1], [])
    save(store, 3)
    assert steps(tmp_path) == [3]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), torch_on_a_full_disk()], ids=["os", "torch"])
def test_on_a_full_disk_what_the_new_file_replaces_makes_room_once(error: Exception, tmp_path: Path) -> None:
    store = opened(tmp_path, [Latest(n=2)])
    save(store, 1), save(store, 2)
    store.save(draft(3), failing(1, error)(writer(draft(3))))
    assert [record.step for record in store.take_dropped()] == [1]
    assert steps(tmp_path) == [2, 3]
    with pytest.raises(type(error)):
        store.save(draft(4), failing(2, error)(writer(draft(4))))
    assert steps(tmp_path) == [3]
    assert [record.step for record in store.take_dropped()] == [2]


def test_a_read_only_disk_deletes_nothing_to_make_room(tmp_path: Path) -> None:
    store = opened(tmp_path, [Latest(n=2)])
    save(store, 1), save(store, 2)
    with pytest.raises(OSError, match="ro"):
        store.save(draft(3), failing(1, OSError(errno.EROFS, "ro"))(writer(draft(3))))
    assert steps(tmp_path) == [1, 2]


def test_the_only_sound_file_is_not_given_up_for_room(tmp_path: Path) -> None:
    store = opened(tmp_path, [Latest()])
    save(store, 1)
    with pytest.raises(OSError, match="full"):
        store.save(draft(2), failing(9, OSError(errno.ENOSPC, "full"))(writer(draft(2))))
    assert steps(tmp_path) == [1]


def test_the_last_sound_file_outlives_the_rules(tmp_path: Path) -> None:
    """The newest is cut short behind our back: the one before it must not go, though no rule keeps it."""
    store = opened(tmp_path, [Latest(n=2)])
    one, two = save(store, 1), save(store, 2)
    store.path(two).write_bytes(store.path(two).read_bytes()[:-9])
    store.rules = (Latest(),)
    store.retain()
    assert [record.step for record in store.records] == [1, 2]
    store.path(two).write_bytes(b"")
    three = save(store, 3)
    assert [store.path(record).exists() for record in (one, two, three)] == [False, False, True]


def test_a_disk_without_room_is_not_filled_to_the_last_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path)
    size = save(store, 1).size
    called = []
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=size - 1))
    with pytest.raises(OSError, match=f"a file of {size} bytes is due, {size - 1} are free") as caught:
        store.save(draft(2), called.append)
    assert (caught.value.errno, called) == (errno.ENOSPC, [])


def test_a_folder_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    store = opened(tmp_path / "kept")
    save(store, 1)
    shutil.rmtree(store.folder)
    store.expect_room()  # before shards are written to a draft in it
    shutil.rmtree(store.folder)
    save(store, 2)
    assert steps(store.folder) == [2]


def test_a_writer_that_swallows_its_error_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match="was not written"):
        opened(tmp_path).save(draft(1), lambda path: None)
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_cannot_be_written_takes_its_file_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(stores, "write_bytes", fails)
    with pytest.raises(OSError, match="full"):
        save(opened(tmp_path), 1)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_a_checkpoint_too(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        path.mkdir()
        (path / "shard-0").write_bytes(b"0" * 100)
        (path / "shard-1").write_bytes(b"1" * 50)

    store = opened(tmp_path)
    record = store.save(draft(1), write, in_folder=True).record
    assert (record.size, damage(store.path(record), record)) == (150, "")
    (store.path(record) / "shard-1").write_bytes(b"1" * 49)
    assert mismatch(store.path(record), record) == "it has 149 bytes of 150"
    (store.path(record) / "shard-1").unlink()
    (store.path(record) / "shard-2").write_bytes(b"1" * 50)
    assert mismatch(store.path(record), record) == "its directory is not the one that was written"
    store.save(draft(2), write, in_folder=True)
    assert [each.step for each in read_records(tmp_path)] == [2]
    assert not store.path(record).exists()


def test_amending_changes_the_record_and_what_is_kept_but_not_the_file(tmp_path: Path) -> None:
    store = opened(tmp_path, [Best("loss"), Latest()])
    first, second = save(store, 1, 5.0), save(store, 2, 7.0)
    bytes_before = store.path(second).read_bytes()
    store.amend(replace(second, metrics={"loss": 1.0}))
    assert [(record.step, record.metrics["loss"]) for record in read_records(tmp_path)] == [(2, 1.0)]
    assert store.path(second).read_bytes() == bytes_before
    assert not store.path(first).exists()


def test_a_bit_that_flips_in_a_tensor_is_found_which_torch_does_not_see(tmp_path: Path) -> None:
    store = opened(tmp_path)
    record = draft(1)
    record = store.save(record, writer(record, size=100_000)).record
    flip(store.path(record), 0.5)
    assert torch.load(store.path(record), weights_only=False)["state_dict"]["w"].unique().numel() == 2
    assert mismatch(store.path(record), record) == ""
    assert "fails its CRC-32" in damage(store.path(record), record)


@pytest.mark.parametrize("cut", [1, 100, 0.5, 0.999])
def test_a_truncated_file_is_found_by_its_size(cut: float, tmp_path: Path) -> None:
    store = opened(tmp_path)
    path = store.path(record := save(store, 1))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * cut) if isinstance(cut, float) else -cut])
    assert "bytes of" in mismatch(path, record)
    assert damage(path), "its own bytes tell it, too"


def test_a_file_swapped_for_another_sound_one_is_found(tmp_path: Path) -> None:
    store = opened(tmp_path, [Latest(n=2)])
    one, two = save(store, 1), save(store, 2)
    shutil.copy(store.path(two), store.path(one))
    assert damage(store.path(one), one) == "its directory is not the one that was written"


def test_without_crcs_size_and_directory_are_compared(tmp_path: Path) -> None:
    if not hasattr(torch.serialization, "set_crc32_options"):
        pytest.skip("this torch always writes CRC-32s")
    torch.serialization.set_crc32_options(False)
    try:
        store = opened(tmp_path)
        record = save(store, 1)
    finally:
        torch.serialization.set_crc32_options(True)
    assert damage(store.path(record), record) == ""


@pytest.mark.usefixtures("poor_filesystem")
def test_folders_on_a_filesystem_without_links_and_without_rename_onto_files(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        path.mkdir()
        (path / "shard").write_bytes(b"0" * 100)

    store = opened(tmp_path, [Latest(n=2)])
    for step in (1, 2, 3):
        store.save(draft(step), write, in_folder=True)
    store.amend(replace(store.history[-1], metrics={"loss": 1.0}))
    records = read_records(tmp_path)
    assert [(record.step, damage(tmp_path / record.name, record)) for record in records] == [(2, ""), (3, "")]
    assert records[-1].metrics == {"loss": 1.0}
    assert len(list(tmp_path.iterdir())) == 4, "two folders and their records"


@pytest.mark.usefixtures("poor_filesystem")
def test_a_filesystem_without_links_and_without_rename_onto_files_will_do(tmp_path: Path) -> None:
    """A record is renewed all the same, and each file is whole under its name."""
    store = opened(tmp_path, [Best("loss", k=2), Latest()])
    for step, loss in ((1, 3.0), (2, 5.0), (3, 4.0), (4, 6.0)):
        save(store, step, loss)
    assert steps(tmp_path) == [1, 3, 4]
    store.amend(replace(store.history[-1], metrics={"loss": 1.0}))
    assert steps(tmp_path) == [1, 4]
    assert read_records(tmp_path)[-1].metrics == {"loss": 1.0}
    assert hidden(tmp_path) == []
    found = newest_good(tmp_path, lambda record, why: pytest.fail(why))
    assert found is not None
    assert found.step == 4
