"""A snapshot runs no code of now: what it does not hold, and a user's file is now, was not there."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lightning_debugkit.provenance.capture import locating
from lightning_debugkit.provenance.capture.locating import newcomer
from lightning_debugkit.provenance.capture.project_modules import ProjectModule
from lightning_debugkit.provenance.capture.sources import collect
from lightning_debugkit.provenance.carried.archive import Archive
from lightning_debugkit.provenance.carried.manifest import Manifest
from lightning_debugkit.provenance.diff.current_code import appeared
from lightning_debugkit.provenance.load_model.isolated import _import_path
from lightning_debugkit.provenance.load_model.private_import import Captured, mount

TRIES = """
try:
    IMPORT
except ImportError:
    from lo_slow import K
"""


@pytest.fixture(autouse=True)
def away() -> Iterator[None]:
    yield
    for name in [name for name in sys.modules if name.startswith("lo_")]:
        del sys.modules[name]


@pytest.fixture
def now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The import path as it is now: a faster module has come."""
    for path in ("lo_fast.py", "lo_space/fast.py", "lo_whole/__init__.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("K = 'now'\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def listed(files: dict[str, str], main: str = "") -> list[dict[str, Any]]:
    return [
        {
            "path": path,
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "bytes": len(text),
            "kind": "main" if path == main else "module",
            "module": None if path == main else path.removesuffix(".py").replace("/", ".").removesuffix(".__init__"),
        }
        for path, text in files.items()
    ]


def captured(text: str) -> Captured:
    files = {"lo_net.py": text, "lo_slow.py": "K = 'then'\n"}
    return mount(Archive({path: each.encode() for path, each in files.items()}), listed(files))


@pytest.mark.parametrize(
    "statement",
    [
        "from lo_fast import K",
        "import lo_fast; K = lo_fast.K",
        "from lo_space.fast import K",
        "from lo_space import fast; K = fast.K",
        "import lo_whole; K = lo_whole.K",
        "import importlib; K = importlib.import_module('lo_fast').K",
        "__import__('lo_fast'); from lo_fast import K",
        "import pkgutil; K = pkgutil.resolve_name('lo_fast:K')",
        "import pydoc; K = pydoc.locate('lo_fast.K') or pydoc.locate('lo_slow.K')",
        "import importlib.util as u; K = 'now' if u.find_spec('lo_fast') else 'then'",
    ],
)
def test_what_was_not_there_is_not_there(now: Path, statement: str) -> None:
    assert captured(TRIES.replace("IMPORT", statement)).module("lo_net").K == "then"
    assert importlib.import_module("lo_fast").K == "now"


def test_it_is_not_there_though_it_is_imported_by_now(now: Path) -> None:
    assert importlib.import_module("lo_fast").K == "now"
    text = "def late():\n    import lo_fast\n"
    with pytest.raises(ModuleNotFoundError, match=r"does not hold lo_fast, which was not there .* is code of now"):
        captured(text).module("lo_net").late()


def test_what_is_installed_is_that_of_now(now: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = [
        "os.path",
        "sys",
        "json",
        "torch.nn",
        "yaml",
        "lightning_debugkit.core.finding",
        "_debugkit_x.y",
        "no_such",
    ]
    assert [newcomer(module, ()) for module in modules] == [None] * len(modules)
    assert newcomer("lo_fast.K", ()) == ("lo_fast", now / "lo_fast.py")
    monkeypatch.setattr(locating, "editable_roots", lambda: {"fast": now})
    assert newcomer("lo_fast", ()) is None
    (now / "lo_net.py").write_text("")  # but the project's own installation is no library
    assert newcomer("lo_fast", ["lo_net"]) == ("lo_fast", now / "lo_fast.py")


@pytest.mark.parametrize("main", ["", "lo_net.py"])
@pytest.mark.parametrize("statement", ["from lo_fast import K", "import importlib; importlib.import_module('lo_fast')"])
def test_auto_knows_what_has_appeared_beside_modules_without_a_package(now: Path, main: str, statement: str) -> None:
    text = (
        TRIES.replace("IMPORT", statement)
        + "import lo_later, lo_net, torch\nclass Net:\n    k = K, importlib, lo_fast\n"
    )
    files = {"lo_net.py": text, "lo_slow.py": ""}
    model = {"qualname": "Net", "files": ["lo_net.py"]}
    manifest = Manifest({"format": 1, "id": "x", "source": {"files": listed(files, main)}, "model": model})
    contents = {path: each.encode() for path, each in files.items()}
    (now / "lo_net.py").write_text(text)
    assert appeared(manifest, contents) == ["lo_fast"]
    (now / "lo_fast.py").unlink()
    importlib.invalidate_caches()
    assert appeared(manifest, contents) == []
    if main:
        training = text + "def fit():\n    import lo_whole\n"  # not for the class
        assert appeared(manifest, {**contents, "lo_net.py": training.encode()}) == []


def test_what_is_imported_later_from_another_folder_is_captured(now: Path, tmp_path: Path) -> None:
    """Else the snapshot would lack it."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "lo_net.py").write_text("def plot():\n    import lo_fast, lo_whole.part, json, torch, no_such\n")
    taken = collect(root, [ProjectModule("lo_net", root / "lo_net.py")], None)
    assert {file["module"] for file in taken.files} == {"lo_net", "lo_fast", "lo_whole"}


def test_an_isolated_model_does_not_see_another_copy_of_the_project(now: Path) -> None:
    (now / "lo_net.py").write_text("")
    held = Manifest({"format": 1, "id": "x", "source": {"files": listed({"lo_net.py": ""}), "root": "/gone"}})
    assert str(now) not in _import_path(held, Path("/source"), [""])
    other = Manifest({"format": 1, "id": "x", "source": {"files": listed({"lo_other.py": ""}), "root": "/gone"}})
    assert str(now) in _import_path(other, Path("/source"), [""])
