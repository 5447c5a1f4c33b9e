"""Files that are no longer as they were captured are told, and only those."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from lightning_debugkit.provenance.capture.drift import DriftWatch


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / name for name in ("a.py", "b.py")]
    for path in paths:
        path.write_text(f"# {path.name}\n")
    return paths


def watch(files: list[Path]) -> DriftWatch:
    return DriftWatch({path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files})


def test_files_that_stay_have_not_drifted(files: list[Path]) -> None:
    watching = watch(files)
    assert [watching.look() for _ in range(3)] == [[], [], []]


def test_a_file_that_was_only_touched_has_not_drifted(files: list[Path]) -> None:
    watching = watch(files)
    os.utime(files[0], (1, 1))
    assert watching.look() == []


def test_an_edit_is_told_at_every_look_until_it_is_undone(files: list[Path]) -> None:
    watching = watch(files)
    files[1].write_text("x = 1\n")
    assert [watching.look(), watching.look()] == [[files[1]], [files[1]]]
    files[1].write_text("# b.py\n")
    assert watching.look() == []


def test_a_file_that_is_gone_has_drifted(files: list[Path]) -> None:
    watching = watch(files)
    files[0].unlink()
    assert watching.look() == [files[0]]


def test_an_edit_before_the_first_look_is_seen(files: list[Path]) -> None:
    """The watch starts from the hashes of the capture, not from what lies there when it first looks."""
    watching = watch(files)
    files[0].write_text("# A.py\n")
    assert watching.look() == [files[0]]
