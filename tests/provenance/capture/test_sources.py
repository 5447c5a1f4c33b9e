"""What a run uses is collected as raw bytes, and what is left out is told with its reason."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lightning_debugkit.provenance.capture.project_modules import project_modules
from lightning_debugkit.provenance.capture.sources import Source, collect
from lightning_debugkit.provenance.carried.archive import open_archive

TOKEN = "ghp_" + hashlib.sha256(b"no real token").hexdigest()[:36]
WORDS = "correct-horse" + "-9-battery"  # in parts: this file is a source of other tests' runs


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    root, library = tmp_path / "root", tmp_path / "elsewhere"
    files = {
        root / "src/cs_pkg/__init__.py": "from cs_pkg.net import Net\n",
        root / "src/cs_pkg/net.py": "import cs_lib\nclass Net:\n    pass\n",
        root / "src/cs_pkg/never.py": "LATE = 1\r\n",
        root / "src/cs_pkg/table.json": "{}",
        root / "src/cs_pkg/.env": "A=1",
        root / "src/cs_pkg/__pycache__/net.cpython-311.pyc": "x",
        root / "cs_tool.py": "def f():\n    import cs_late\n",
        root / "cs_late.py": "import cs_later\n",
        root / "cs_later.py": "",
        root / "cs_unasked.py": "",
        root / "train.py": "import cs_tool\n",
        root / "conf.yaml": "a: 1",
        library / "cs_lib.py": "",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    for folder in (library, root, root / "src"):
        monkeypatch.syspath_prepend(folder)
    for name in ("cs_pkg", "cs_tool"):
        importlib.import_module(name)
    yield root
    for name in [name for name in sys.modules if name.startswith("cs_")]:
        del sys.modules[name]


def collected(root: Path, **options: Any) -> Source:
    own = [module for module in project_modules(root) if module.name.startswith("cs_")]
    return collect(root, own, root / "train.py", **options)


def skipped(source: Source) -> dict[str, str]:
    return {each["path"]: each["reason"] for each in source.skipped}


def test_imported_modules_and_what_belongs_to_them_are_collected(project: Path) -> None:
    source = collected(project, include=("*.yaml",))
    assert {file["path"]: (file["kind"], file["module"]) for file in source.files} == {
        "@elsewhere/cs_lib.py": ("module", "cs_lib"),
        "conf.yaml": ("config", None),
        "cs_late.py": ("module", "cs_late"),
        "cs_later.py": ("module", "cs_later"),
        "cs_tool.py": ("module", "cs_tool"),
        "src/cs_pkg/__init__.py": ("module", "cs_pkg"),
        "src/cs_pkg/net.py": ("module", "cs_pkg.net"),
        "src/cs_pkg/never.py": ("module", "cs_pkg.never"),
        "src/cs_pkg/table.json": ("data", None),
        "train.py": ("main", None),
    }
    assert source.import_roots == ["", "@elsewhere", "src"]
    assert (source.main, source.outside) == ("train.py", {"elsewhere": str(project.parent / "elsewhere")})


def test_the_bytes_are_those_on_disk(project: Path) -> None:
    source = collected(project)
    assert source.zip is not None
    archive = open_archive(source.zip, source.files)
    assert archive["src/cs_pkg/never.py"] == b"LATE = 1\r\n"
    for file in source.files:
        assert file["sha256"] == hashlib.sha256(archive[file["path"]]).hexdigest()
        assert file["bytes"] == len(archive[file["path"]])


def test_the_same_project_gives_the_same_bytes(project: Path) -> None:
    assert collected(project).zip == collected(project).zip


def test_secrets_and_large_files_are_left_out_and_told(project: Path) -> None:
    (project / "src/cs_pkg/keys.py").write_text(f"TOKEN = '{TOKEN}'\n")
    (project / "cs_tool.py").write_text(f"DB = {{'password': '{WORDS}'}}\n")
    (project / "src/cs_pkg/weights.bin").write_bytes(bytes(2000))
    source = collected(project, max_file=1000)
    assert skipped(source)["src/cs_pkg/weights.bin"] == "too large: 2,000 bytes"
    assert "GitHub token" in skipped(source)["src/cs_pkg/keys.py"]
    assert skipped(source)["cs_tool.py"] == "holds a value with the name of a secret in line 1"
    assert source.zip is not None
    assert TOKEN.encode() not in source.zip
    assert "src/cs_pkg/.env" not in source.contents


def test_a_full_bundle_keeps_the_code_and_leaves_out_data(project: Path) -> None:
    (project / "src/cs_pkg/noise.bin").write_bytes(b"".join(hashlib.sha256(bytes([n])).digest() for n in range(200)))
    source = collected(project, max_bundle=5000)
    assert skipped(source) == {"src/cs_pkg/noise.bin": "the bundle is full: 5,000 bytes"}
    assert source.zip is not None
    assert len(source.zip) <= 5000


def test_code_that_does_not_fit_is_listed_but_not_packed(project: Path) -> None:
    source = collected(project, max_bundle=100)
    assert source.zip is None
    assert "src/cs_pkg/net.py" in [file["path"] for file in source.files]


def test_a_data_set_within_a_package_is_not_taken(project: Path) -> None:
    folder = project / "src/cs_pkg/images"
    folder.mkdir()
    for number in range(201):
        (folder / f"{number}.png").write_bytes(b"x")
    source = collected(project)
    assert skipped(source)["src/cs_pkg/images"] == "a folder of 201 files that are no code is taken for a data set"


def test_names_that_are_one_file_elsewhere_are_not_both_taken(project: Path) -> None:
    (project / "src/cs_pkg/Table.json").write_text("[]")
    source = collected(project)
    assert source.zip is not None
    open_archive(source.zip, source.files)
    assert len([path for path in source.contents if path.lower().endswith("table.json")]) == 1
    assert "on some systems" in next(iter(skipped(source).values()))


def test_the_files_of_the_model_are_those_its_class_reaches(project: Path) -> None:
    part = collected(project).part_of_model(sys.modules["cs_pkg"].Net)
    assert part == {
        "module": "cs_pkg.net",
        "qualname": "Net",
        "path": "src/cs_pkg/net.py",
        "files": ["@elsewhere/cs_lib.py", "src/cs_pkg/__init__.py", "src/cs_pkg/net.py"],
    }


def test_one_file_under_two_names_is_kept_once_with_both(project: Path) -> None:
    importlib.import_module("src.cs_pkg.net")
    try:
        own = [module for module in project_modules(project) if "cs_pkg" in module.name]
        source = collect(project, own, None)
    finally:
        for name in [name for name in sys.modules if name.startswith("src.cs_pkg") or name == "src"]:
            del sys.modules[name]
    file = next(file for file in source.files if file["path"] == "src/cs_pkg/net.py")
    assert {file["module"], *file["aliases"]} == {"cs_pkg.net", "src.cs_pkg.net"}


def test_a_file_that_vanishes_is_told(project: Path) -> None:
    own = [module for module in project_modules(project) if module.name.startswith("cs_")]
    (project / "cs_tool.py").unlink()
    source = collect(project, own, None)
    assert skipped(source) == {"cs_tool.py": "cannot be read: No such file or directory"}


def test_a_file_and_a_folder_of_one_name_but_for_case_leave_a_readable_bundle(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("x = 1\n")
    (tmp_path / "Config.yaml").write_text("a: 1\n")
    (tmp_path / "config.yaml").mkdir()
    (tmp_path / "config.yaml" / "b.yaml").write_text("b: 1\n")
    taken = collect(tmp_path, [], tmp_path / "train.py", ["*.yaml", "*/*.yaml"])
    assert taken.zip is not None
    assert len(open_archive(taken.zip, taken.files).contents) == 2
    assert [each["reason"] for each in taken.skipped] == ["one name with Config.yaml on some systems"]
