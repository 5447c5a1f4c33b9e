"""The code of now is found where the modules of now lie, wherever the project was cloned or moved to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lightning_debugkit.provenance.carried.manifest import Manifest
from lightning_debugkit.provenance.diff.current_code import defines, reader

FILES = {
    "src/cu_pkg/__init__.py": "cu_pkg",
    "src/cu_pkg/sub/model.py": "cu_pkg.sub.model",
    "src/cu_pkg/data/k.json": None,
    "src/cu_pkg/gone.json": None,
    "setup.yaml": None,
    "@lib/cu_lib.py": "cu_lib",
    "@lib/tables/k.json": None,
    "@other/k.json": None,
}


@pytest.fixture(autouse=True)
def away() -> Iterator[None]:
    yield
    for name in [name for name in sys.modules if name.startswith("cu_")]:
        del sys.modules[name]


def project(root: Path, told: str) -> Path:
    """A copy of the project, whose files hold ``told``."""
    for path in FILES:
        if not path.endswith("gone.json"):
            place = root / path.replace("@", "outside_")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(f"# {told}")
    return root


def manifest(root: Path) -> Manifest:
    files: list[dict[str, Any]] = [
        {"path": path, "sha256": "0" * 64, "bytes": 1, "module": module, "kind": "module" if module else "data"}
        for path, module in FILES.items()
    ]
    outside = {"lib": str(root / "outside_lib"), "other": str(root / "outside_other")}
    return Manifest({"format": 1, "id": "x", "source": {"files": files, "root": str(root), "outside": outside}})


@pytest.mark.parametrize("is_here", [True, False])
def test_data_files_are_those_beside_the_modules_of_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_here: bool
) -> None:
    """Of a clone; the folder that was recorded may be gone, or another copy by now."""
    then = project(tmp_path / "then", "then") if is_here else tmp_path / "then"
    clone = project(tmp_path / "clone", "clone")
    for folder in ("src", "outside_lib"):
        monkeypatch.syspath_prepend(clone / folder)
    now = reader(manifest(then))
    held = {path: text.decode() if (text := now(path)) is not None else None for path in FILES}
    assert held == dict.fromkeys(FILES, "# clone") | {"src/cu_pkg/gone.json": None, "@other/k.json": None}


def test_files_of_the_folder_that_was_recorded_count_where_no_module_is_found(tmp_path: Path) -> None:
    now = reader(manifest(project(tmp_path, "then")))
    assert now("setup.yaml") == b"# then"
    assert now("src/cu_pkg/sub/model.py") is None


def test_a_package_that_lies_in_another_layout_now_tells_nothing_of_what_lies_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(tmp_path / "clone", "clone")
    (tmp_path / "flat").mkdir()
    (tmp_path / "clone/src/cu_pkg").rename(tmp_path / "flat/cu_pkg")
    monkeypatch.syspath_prepend(tmp_path / "flat")
    now = reader(manifest(project(tmp_path / "then", "then")))
    assert (now("src/cu_pkg/data/k.json"), now("setup.yaml")) == (b"# clone", b"# then")


def test_a_class_within_a_function_is_none_of_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cu_nets.py").write_text("class Net:\n    class Inner: ...\ndef build():\n    class Local: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert [defines("cu_nets", name) for name in ("Net", "Net.Inner", "Local", "Gone")] == [True, True, False, False]
    assert "cu_nets" not in sys.modules
