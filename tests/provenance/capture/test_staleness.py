"""A file that is no longer what runs is known, and one that still is is not accused."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightning_debugkit.provenance.capture.staleness import is_stale, process_start

TEXT = """WIDTH = 1
class Net:
    @property
    def width(self):
        return WIDTH
    @staticmethod
    def one():
        return 1
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "stale_net.py"
    path.write_text(TEXT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    importlib.import_module("stale_net")
    yield path
    del sys.modules["stale_net"]


def stale(path: Path, start: float = 0.0) -> bool:
    return is_stale(path.read_bytes(), path, path.stat().st_mtime, "stale_net", start)


def edit(path: Path, text: str) -> None:
    path.write_text(text)
    os.utime(path, (time.time() + 5, time.time() + 5))


def test_a_file_imported_after_it_was_written_is_what_runs(file: Path) -> None:
    assert not stale(file)


@pytest.mark.parametrize("text", [TEXT.replace("return 1", "return 2"), TEXT.replace("WIDTH = 1", "WIDTH = 2"), "1 +"])
def test_a_file_edited_since_is_stale(file: Path, text: str) -> None:
    edit(file, text)
    assert stale(file)


@pytest.mark.parametrize("text", [TEXT.replace("return 1", "return 2"), TEXT.replace("return WIDTH", "return 0")])
def test_without_bytecode_the_living_functions_tell(file: Path, text: str) -> None:
    for cached in file.parent.rglob("*.pyc"):
        cached.unlink()
    edit(file, TEXT)
    assert not stale(file)
    edit(file, text)
    assert stale(file)


def test_a_file_that_is_older_than_the_process_is_what_runs(file: Path) -> None:
    edit(file, "1 +")
    assert not stale(file, start=time.time() + 60)


def test_a_file_that_is_not_imported_yet_will_be_what_runs(file: Path) -> None:
    edit(file, "1 +")
    assert not is_stale(b"1 +", file, file.stat().st_mtime, "not_imported", 0.0)


def test_this_process_began_before_now_and_after_its_parent_was_written() -> None:
    assert time.time() - 24 * 3600 < process_start() < time.time()
