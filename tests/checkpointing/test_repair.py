"""After a kill, or with damaged files, a folder is set right and the newest sound checkpoint is found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from checkpointing.folders import draft, flip, hidden, opened, save, steps, writer
from checkpointing.newest import newest_good

from lightning_debugkit.checkpointing.repair import MANIFEST, read_manifest, repair
from lightning_debugkit.checkpointing.store import Store
from lightning_debugkit.checkpointing.verification import DamagedCheckpoint
from lightning_debugkit.checkpoints import Latest, Record


def found(folder: Path) -> tuple[int | None, list[int]]:
    """The step of the newest sound file, and those passed over."""
    passed: list[int] = []
    record = newest_good(folder, lambda record, why: passed.append(record.step))
    return (None if record is None else record.step), passed


def test_a_sound_folder_needs_no_repair(tmp_path: Path) -> None:
    store = opened(tmp_path, [Latest(n=3)])
    for step in (1, 2, 3):
        save(store, step)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert not repair(tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    assert found(tmp_path) == (3, [])


def test_an_empty_folder_has_nothing_and_that_is_no_fault(tmp_path: Path) -> None:
    assert found(tmp_path) == (None, [])
    assert found(tmp_path / "none") == (None, [])


@pytest.mark.parametrize("how", ["flipped", "cut", "gone", "empty"])
def test_damaged_files_are_passed_over_with_their_reason(how: str, tmp_path: Path) -> None:
    store = opened(tmp_path, [Latest(n=3)])
    one, two, three = (save(store, step) for step in (1, 2, 3))
    for record in (two, three):
        path = store.path(record)
        if how == "flipped":
            flip(path, 0.5)
        elif how == "gone":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-1] if how == "cut" else b"")
    assert found(tmp_path) == (1, [3, 2])
    flip(store.path(one), 0.5)
    with pytest.raises(DamagedCheckpoint, match="holds 3 checkpoints and none is sound"):
        found(tmp_path)


def test_a_damaged_file_is_set_aside_and_kept(tmp_path: Path) -> None:
    store = opened(tmp_path, [Latest(n=3)])
    one, two, three = (save(store, step) for step in (1, 2, 3))
    store.path(three).write_bytes(store.path(three).read_bytes()[:-1])
    flip(store.path(two), 0.5)
    repairs = repair(tmp_path, suspects=[two.name])
    assert dict(repairs.set_aside).keys() == {f"{two.name}.damaged", f"{three.name}.damaged"}
    assert steps(tmp_path) == [1]
    assert (tmp_path / f"{three.name}.damaged").exists()
    assert (tmp_path / f"{three.name}.damaged.json").exists()
    assert found(tmp_path) == (1, [])
    assert not repair(tmp_path)
    assert one.name in {path.name for path in tmp_path.iterdir()}


def test_a_record_whose_file_is_gone_goes(tmp_path: Path) -> None:
    store = opened(tmp_path, [Latest(n=2)])
    save(store, 1), save(store, 2)
    store.path(draft(2)).unlink()
    assert repair(tmp_path).lost == (draft(2).name,)
    assert steps(tmp_path) == [1]


def test_a_whole_file_without_a_record_is_adopted_as_it_was(tmp_path: Path) -> None:
    store = opened(tmp_path, [Latest(n=2)])
    save(store, 1)
    record = save(store, 2, 0.25)
    (tmp_path / f"{record.name}.json").unlink()
    assert found(tmp_path) == (2, []), "it is found before anything is repaired"
    assert repair(tmp_path).adopted == (record.name,)
    again = opened(tmp_path)
    assert again.records[-1] == record


@pytest.mark.parametrize("how", ["damaged", "renamed", "foreign"])
def test_a_file_that_does_not_tell_its_step_is_set_aside(how: str, tmp_path: Path) -> None:
    store = opened(tmp_path)
    record = save(store, 1)
    path = store.path(record)
    (tmp_path / f"{record.name}.json").unlink()
    if how == "damaged":
        flip(path, 0.5)
    elif how == "renamed":
        path = path.rename(store.path(draft(7)))
    else:
        torch.save({"w": torch.zeros(3)}, path)
    assert [name for name, _ in repair(tmp_path).set_aside] == [f"{path.name}.damaged"]
    assert steps(tmp_path) == []


def test_files_of_others_are_not_judged(tmp_path: Path) -> None:
    for name in ("epoch=3-step=100.ckpt", "step-12.ckpt", "last.ckpt", "step-00000001-0123abcd.ckpt.json"):
        (tmp_path / name).write_text("x")
    assert not repair(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_the_history_in_progress_comes_before_a_newer_branch(tmp_path: Path) -> None:
    """Going back from 300 to 100 and on to 150 leaves 200 and 300: they are the last resort."""
    store = opened(tmp_path, [Latest(n=9)])
    for step in (100, 200, 300):
        save(store, step)
    branch = Store(tmp_path, [Latest(n=9)], "bbbbbbbb")
    record = Record(
        draft(150, run="bbbbbbbb").name, draft(150).moment, time=1e9, run="bbbbbbbb", lineage=((draft(1).run, 100),)
    )
    record = branch.save(record, writer(record)).record
    assert found(tmp_path) == (150, [])
    flip(branch.path(record), 0.5)
    assert found(tmp_path) == (100, [150])
    flip(store.path(draft(100)), 0.5)
    assert found(tmp_path) == (300, [150, 100])


KILLED = """
import os, signal, sys
from pathlib import Path
from lightning_debugkit.core.atomic_files import write_whole

def save(path):
    path.write_bytes(b"x" * 1000)
    print("writing", flush=True)
    input()

write_whole(Path(sys.argv[1]) / "step-00000001-0123abcd.ckpt", save)
"""


def test_what_a_killed_writer_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as writing:
        assert writing.stdout is not None
        assert writing.stdout.readline() == "writing\n"
        assert not repair(tmp_path)
        assert len(hidden(tmp_path)) == 1
        writing.kill()
    assert repair(tmp_path).swept == (1000,)
    assert hidden(tmp_path) == []


def test_the_manifest_is_read_without_running_what_a_file_names(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.write_text, (tmp_path / "harm", "done"))

    record = draft(1)
    path = tmp_path / record.name
    torch.save({"hyper_parameters": Harmful(), MANIFEST: {"checkpoint": record.to_plain()}, "z": {1, 2}}, path)
    assert read_manifest(path) == {"checkpoint": record.to_plain()}
    assert not (tmp_path / "harm").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "harm").exists(), "torch would have run it"


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"no zip", bytes(range(256)) * 9])
def test_a_file_that_is_no_checkpoint_has_no_manifest(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(data)
    assert read_manifest(tmp_path / "x.ckpt") == {}
    assert read_manifest(tmp_path / "missing.ckpt") == {}
