"""The project's modules are known among all imported ones, and the project's folder from where they lie."""

from __future__ import annotations

import importlib
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from lightning_debugkit.provenance.capture import project_modules as modules
from lightning_debugkit.provenance.capture.project_modules import (
    ProjectModule,
    is_users_file,
    main_file,
    project_modules,
    project_root,
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with a module under ``src`` and one beside it, imported."""
    before = set(sys.modules)
    for name, text in {
        "src/pm_pkg/__init__.py": "",
        "src/pm_pkg/model.py": "class Net: ...\n",
        "pm_tool.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "src")
    for name in ("pm_pkg.model", "pm_tool"):
        importlib.import_module(name)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("pm_"):
            del sys.modules[name]


def own(project: Path) -> list[str]:
    return [module.name for module in project_modules(project) if module.path.is_relative_to(project)]


def test_only_imported_files_of_the_project_are_its_modules(project: Path) -> None:
    (project / "src/pm_pkg/never.py").write_text("")
    assert own(project) == ["pm_pkg", "pm_pkg.model", "pm_tool"]
    assert {m.name for m in project_modules(project)}.isdisjoint({"torch", "torch.ops", "json", "numpy", "__main__"})


def test_modules_outside_of_the_root_count_too(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert "pm_tool" in [module.name for module in project_modules(elsewhere)]


def test_a_module_whose_file_is_nowhere_is_none(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.ops says it comes from a relative file."""
    monkeypatch.chdir(project)
    (project / "_ops.py").write_text("")
    fake = ModuleType("pm_fake")
    fake.__file__ = "_ops.py"
    monkeypatch.setitem(sys.modules, "pm_fake", fake)
    assert torch.ops.__file__ == "_ops.py"
    assert {"pm_fake", "torch.ops"}.isdisjoint(own(project))


def test_a_lazy_module_is_not_made_to_import(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lazy(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise RuntimeError(f"asked for {name}")

    monkeypatch.setitem(sys.modules, "pm_lazy", Lazy("pm_lazy"))
    assert own(project) == ["pm_pkg", "pm_pkg.model", "pm_tool"]


@pytest.mark.parametrize("name", ["pkg", "pkg.mod", "pkg.sub"])
def test_the_base_is_the_folder_on_the_import_path(name: str) -> None:
    file = {"pkg": "pkg/__init__.py", "pkg.mod": "pkg/mod.py", "pkg.sub": "pkg/sub/__init__.py"}[name]
    assert ProjectModule(name, Path("/p/src") / file).base == Path("/p/src")


def test_a_name_that_the_file_does_not_have_gives_no_base() -> None:
    assert ProjectModule("other.name", Path("/p/src/pkg/mod.py")).base is None


def test_files_of_libraries_are_not_own(tmp_path: Path) -> None:
    assert not is_users_file(Path(torch.__file__))
    assert not is_users_file(Path(sysconfig.get_path("stdlib")) / "json" / "__init__.py")
    assert not is_users_file(Path(sysconfig.get_path("scripts")) / "pytest")
    assert not is_users_file(tmp_path / "env" / "lib" / "site-packages" / "x.py")
    assert is_users_file(tmp_path / "x.py")


def test_pytest_is_no_script_of_the_project() -> None:
    assert main_file() is None


def net(project: Path) -> type:
    found: type = sys.modules["pm_pkg.model"].Net
    return found


def test_the_root_is_the_repository_if_it_holds_the_model(project: Path, tmp_path: Path) -> None:
    assert project_root(net(project), None, project.parent) == project.parent
    assert project_root(net(project), None, Path("/another")) == project / "src"


def test_the_root_is_the_folder_with_the_packaging_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "pyproject.toml").write_text("")
    monkeypatch.chdir("/")
    assert project_root(net(project), None) == project


def test_the_root_holds_script_and_model(project: Path) -> None:
    assert project_root(net(project), project / "train.py") == project
    assert project_root(net(project), None) == project / "src"


def test_a_packaging_file_within_the_package_does_not_cut_its_name(project: Path) -> None:
    (project / "src/pm_pkg/pyproject.toml").write_text("")
    assert project_root(net(project), None) == project / "src"


def test_the_working_folder_is_not_the_root(project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "hydra").mkdir()
    monkeypatch.chdir(tmp_path / "hydra")
    assert project_root(torch.nn.Linear, project / "train.py") == project


def test_an_editable_install_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = tmp_path / "pm_dist-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pm-dist\nVersion: 1.0\n")
    (info / "direct_url.json").write_text('{"url": "file:///some/where%20else", "dir_info": {"editable": true}}')
    broken = tmp_path / "pm_broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Name: pm-broken\nVersion: 1.0\n")
    (broken / "direct_url.json").write_text("[")
    monkeypatch.syspath_prepend(tmp_path)
    found = modules.editable_roots()
    assert found["pm-dist"] == Path("/some/where else")
    assert "pm-broken" not in found


def test_a_folder_that_is_reached_by_its_neighbour_is_captured_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``sys.path.append(os.path.join(os.path.dirname(__file__), "..", "lib"))`` stands in many a script."""
    (tmp_path / "code").mkdir()
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "helpers_beside.py").write_text("W = 12\n")
    monkeypatch.syspath_prepend(str(tmp_path / "code" / ".." / "lib"))
    importlib.import_module("helpers_beside")
    found = next(module for module in project_modules(tmp_path / "code") if module.name == "helpers_beside")
    assert found.path == tmp_path / "lib" / "helpers_beside.py"
    assert found.base == tmp_path / "lib"
