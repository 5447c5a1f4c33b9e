"""Captured files are written whole or not at all, and never over anything."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from lightning_debugkit.provenance.carried import restore as restoring
from lightning_debugkit.provenance.carried.archive import Archive, RefusedArchive
from lightning_debugkit.provenance.carried.restore import restore_files

ARCHIVE = Archive({"pkg/model.py": b"x = 1\r\n", "train.py": b"\xff\xfe"})


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["new", "deep/er/new"])
def test_the_bytes_are_the_captured_ones(tmp_path: Path, name: str) -> None:
    written = restore_files(ARCHIVE, tmp_path / name)
    assert written == [tmp_path / name / "pkg/model.py", tmp_path / name / "train.py"]
    assert tree(tmp_path / name) == dict(ARCHIVE.contents)


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    restore_files(ARCHIVE, tmp_path / "to")
    assert tree(tmp_path) == {f"to/{path}": data for path, data in ARCHIVE.contents.items()}


def test_the_folder_one_stands_in_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    restore_files(ARCHIVE, Path())
    assert tree(tmp_path) == dict(ARCHIVE.contents)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("mine")
    with pytest.raises(RefusedArchive, match="is not empty; name a folder that does not exist yet"):
        restore_files(ARCHIVE, tmp_path)
    with pytest.raises(RefusedArchive, match="is not empty"):
        restore_files(ARCHIVE, tmp_path / "train.py")
    assert tree(tmp_path) == {"train.py": b"mine"}


def test_a_link_to_an_empty_folder_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    restore_files(ARCHIVE, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert tree(tmp_path / "real") == dict(ARCHIVE.contents)


def test_a_disk_that_fills_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        if path.name == "train.py":
            raise OSError(28, "No space left on device")
        write(path, data)

    write = restoring._write
    monkeypatch.setattr(restoring, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        restore_files(ARCHIVE, tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(RefusedArchive, match=r"has less than 20,000,009 bytes free"):
        restore_files(ARCHIVE, tmp_path / "to")
    assert list(tmp_path.iterdir()) == []
