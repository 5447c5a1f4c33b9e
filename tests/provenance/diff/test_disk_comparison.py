"""The files of a checkpoint are compared with those of this machine, and no others are read or shown."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from lightning_debugkit.cli.code_messages import harmless
from lightning_debugkit.cli.diff import run as diff
from lightning_debugkit.provenance.carried.archive import pack
from lightning_debugkit.provenance.carried.manifest import Manifest, embedded
from lightning_debugkit.provenance.diff.disk_comparison import on_disk


def manifest_of(root: Path, path: str, kind: str = "module", **source: Any) -> Manifest:
    file = {"path": path, "sha256": hashlib.sha256(b"then\n").hexdigest(), "bytes": 5, "kind": kind, "module": None}
    model = {"module": "m", "qualname": "Net", "files": [path]}
    return Manifest({"format": 1, "id": "x", "source": {"root": str(root), "files": [file], **source}, "model": model})


def saved(manifest: Manifest, to: Path) -> str:
    import torch

    path = str(manifest.files[0]["path"])
    torch.save({"lightning_debugkit": embedded(manifest, pack({path: b"then\n"}))}, to)
    return str(to)


@pytest.mark.parametrize("path", ["/dev/zero", "../secret.txt", "pipe", "folder"])
def test_what_is_no_file_below_the_project_is_not_read(tmp_path: Path, path: str) -> None:
    root = tmp_path / "project"
    (root / "folder").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("mine")
    os.mkfifo(root / "pipe")
    assert on_disk(manifest_of(root, path), root)(path) is None


def test_a_device_in_a_folder_that_the_checkpoint_names_is_not_read(tmp_path: Path) -> None:
    assert on_disk(manifest_of(tmp_path, "@x/zero", outside={"x": "/dev"}), tmp_path)("@x/zero") is None


def test_a_private_file_that_the_checkpoint_names_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = tmp_path / "private"
    private.mkdir()
    (private / "notes.txt").write_text("my secret\n")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    outside = saved(manifest_of(here, "@x/notes.txt", outside={"x": str(private)}), tmp_path / "a.ckpt")
    told, _ = diff(outside)
    assert "changed   @x/notes.txt" in told
    assert "my secret" not in told
    as_root = saved(manifest_of(private, "notes.txt"), tmp_path / "b.ckpt")
    told, _ = diff(as_root)
    assert "my secret" not in told
    assert f"Name the project to see the differences: lightning-debugkit diff {as_root} {private}" in told
    assert "+my secret" in diff(as_root, str(private))[0]


def test_cells_of_a_notebook_are_not_taken_for_a_file_that_is_gone(tmp_path: Path) -> None:
    told, status = diff(saved(manifest_of(tmp_path, "notebook_cells.py", "cells"), tmp_path / "x.ckpt"), str(tmp_path))
    assert status == 0
    assert "The run was started from a notebook, whose cells are not compared" in told


def test_code_from_elsewhere_does_not_steer_a_terminal() -> None:
    assert harmless("\tx = 1  # \x1b]0;owned\x07ü") == "\tx = 1  # \\x1b]0;owned\\x07ü"
