"""A file that was left out of a snapshot is known by its hash: the model may use it all the same."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lightning_debugkit.provenance.capture.left_out import known_files, left_out, writable
from lightning_debugkit.provenance.capture.project_modules import project_modules
from lightning_debugkit.provenance.capture.sources import collect
from lightning_debugkit.provenance.carried.archive import Archive, open_archive
from lightning_debugkit.provenance.carried.manifest import Manifest
from lightning_debugkit.provenance.diff.current_code import appeared, reader
from lightning_debugkit.provenance.diff.disk_comparison import compare_with_disk, imported, on_disk
from lightning_debugkit.provenance.load_model.main_module import mount_snapshot
from lightning_debugkit.provenance.load_model.private_import import LeftOut

TOKEN = "TOKEN = 'ghp_" + hashlib.sha256(b"no real token").hexdigest()[:36] + "'\n"
FILES = {
    "lf_pkg/__init__.py": "",
    "lf_pkg/model.py": "from lf_pkg.layers import K\nfrom lf_pkg.aux import L\nimport lf_flat\nclass Net:\n    k = K\n",
    "lf_pkg/layers.py": TOKEN + "from lf_pkg.deep import D\nK = 1\n",
    "lf_pkg/aux.py": "L = 1\n",
    "lf_pkg/deep.py": "D = 1\n",
    "lf_pkg/other.py": TOKEN,
    "lf_pkg/.env": "PASSWORD=short\n",
    "lf_pkg/credentials.json": "{}",
    "lf_flat.py": "LARGE = 1\n" + "#" * 3000,
}
LEFT_OUT = {"lf_pkg/layers.py", "lf_pkg/aux.py", "lf_flat.py"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("lf_pkg.model")
    yield tmp_path
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.startswith("lf_")]:
        del sys.modules[name]


def taken(root: Path) -> tuple[Manifest, bytes]:
    own = [module for module in project_modules(root) if module.name.startswith("lf_")]
    source = collect(root, own, None, max_file=2000)
    assert source.zip is not None
    forget()  # as in another process
    facts = {"format": 1, "id": "x", "source": source.part(), "model": source.part_of_model(Net)}
    return Manifest.from_json(Manifest(facts).to_json()), source.zip


class Net:
    pass


Net.__module__ = "lf_pkg.model"


def archive_of(manifest: Manifest, source: bytes) -> Archive:
    return open_archive(source, manifest.files)


def test_what_is_left_out_of_the_model_is_the_models_with_what_it_imports(project: Path) -> None:
    manifest, _ = taken(project)
    captured = {"lf_pkg/__init__.py", "lf_pkg/model.py", "lf_pkg/deep.py"}
    assert set(manifest.model_files) == captured | LEFT_OUT
    assert {file["path"] for file in manifest.files} == captured
    assert {file["path"] for file in known_files(manifest)} == captured | LEFT_OUT | {"lf_pkg/other.py"}
    assert FILES["lf_pkg/layers.py"][9:30] not in manifest.to_json()


def test_of_what_is_a_secret_by_its_name_not_even_a_hash_is_kept(project: Path) -> None:
    """A short password could be found out from it."""
    skipped = {str(each["path"]): each for each in taken(project)[0]["source"]["skipped"]}
    assert set(skipped["lf_pkg/credentials.json"]) == {"path", "reason", "bytes"}


def test_nothing_has_changed_where_nothing_has(project: Path) -> None:
    manifest, source = taken(project)
    for now in (reader(manifest), on_disk(manifest, project), imported(manifest, project)):
        found = compare_with_disk(manifest, source, now)
        assert (found.model, found.others) == ("identical", "identical")
    assert appeared(manifest, archive_of(manifest, source).contents) == []


@pytest.mark.parametrize("path", sorted(LEFT_OUT))
def test_a_change_of_what_was_left_out_is_a_change_of_the_model(project: Path, path: str) -> None:
    manifest, source = taken(project)
    (project / path).write_text(FILES[path].replace("1", "5"))
    for now in (reader(manifest), on_disk(manifest, project), imported(manifest, project)):
        assert compare_with_disk(manifest, source, now).model_changes == [path]


def test_a_snapshot_takes_what_was_left_out_from_where_it_lies_unchanged(project: Path) -> None:
    manifest, source = taken(project)
    (project / "lf_pkg/deep.py").write_text("D = 5\n")  # which is captured
    then = mount_snapshot(manifest, archive_of(manifest, source))
    assert then.module("lf_pkg.model").K == 1
    assert then.module("lf_pkg.layers").D == 1
    assert then.module("lf_flat").LARGE == 1
    assert "lf_flat" not in sys.modules


@pytest.mark.parametrize(("path", "module"), [("lf_pkg/layers.py", "lf_pkg.layers"), ("lf_flat.py", "lf_flat")])
def test_a_snapshot_does_not_take_what_has_changed(project: Path, path: str, module: str) -> None:
    manifest, source = taken(project)
    (project / path).write_text(FILES[path].replace("1", "5"))
    with pytest.raises(LeftOut, match=rf"does not hold {module}: {path} was left out"):
        mount_snapshot(manifest, archive_of(manifest, source)).module("lf_pkg.model")


GOOD = {"path": "a/b.py", "sha256": "0" * 64, "kind": "module", "module": "a.b", "bytes": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"path": "../b.py"},
        {"path": "/dev/zero"},
        {"path": "a//b.py"},
        {"path": "c:/b.py"},
        {"path": 5},
        {"sha256": "0" * 63},
        {"sha256": None},
        {"kind": []},
        {"module": "a b"},
        {"module": 5},
        {"aliases": 5},
        {"aliases": [5]},
    ],
)
def test_what_a_stranger_may_write_there_is_passed_over(change: dict[str, Any]) -> None:
    assert left_out([GOOD]) == [GOOD]
    assert left_out([{**GOOD, **change}]) == []
    held = Manifest({"format": 1, "id": "x", "source": {"skipped": [{**GOOD, **change}, 5, None]}})
    assert known_files(held) == []


def test_only_names_that_every_system_has_are_written() -> None:
    assert set(writable(Archive({"a/aux.py": b"", "a/b.py": b""}))) == {"a/b.py"}
