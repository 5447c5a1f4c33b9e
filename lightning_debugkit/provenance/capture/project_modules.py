"""Which of the imported modules are the project's own, and where the project lies."""

from __future__ import annotations

import json
import os
import site
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

# A captured copy of these would be another library than the one that loads the model: a captured LightningModule
# is no LightningModule of the running Trainer.
FRAMEWORKS = frozenset(
    [
        "lightning",
        "lightning_debugkit",
        "lightning_fabric",
        "lightning_utilities",
        "numpy",
        "pytorch_lightning",
        "torch",
        "torchmetrics",
    ]
)
# Debuggers come from the editor's folder; the first are models that were themselves loaded from a snapshot.
_TOOLS = ("_debugkit_", "debugpy", "pydev", "_pydev")
_MARKERS = ("pyproject.toml", "setup.py", "setup.cfg", ".git", ".hg")
MAINS = ("__main__", "__mp_main__")  # the second is the script's name in a spawned rank


@dataclass(frozen=True, order=True)
class ProjectModule:
    """An imported module of the project and the file it came from."""

    name: str
    path: Path

    @property
    def base(self) -> Path | None:
        """The folder that must be on the import path for the module to have its name, if the names fit."""
        file = self.path.with_suffix("")
        parts = self.name.split(".")
        if file.name == "__init__" and parts[-1] != "__init__":
            file = file.parent
        if file.parts[-len(parts) :] != tuple(parts):
            return None
        return Path(*file.parts[: -len(parts)])


def project_modules(root: Path, main: Path | None = None) -> list[ProjectModule]:
    """Return the imported modules that are neither installed nor built in, sorted by name.

    Modules from outside of ``root`` count too: an editable install or a folder on ``PYTHONPATH`` is code of ours that
    no version number stands for. The script is among them if it has a name, as under ``python -m package.train``.

    Args:
        root: Folder of the project; one that was put among the installed packages is the project's all the same.
    """
    found = []
    is_installed = not _is_own_folder(root.absolute())
    for name, module in sys.modules.copy().items():
        path = _file_of(name, module, is_installed)
        if path is not None and (is_users_file(path) or (is_installed and path.is_relative_to(root))):
            found.append(ProjectModule(name, path))
    running = main.absolute() if main else None
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if running and spec is not None and spec.name and not spec.name.endswith(".__main__"):
        entry = ProjectModule(spec.name, running)  # python -m package.train
        if entry.base is not None and entry not in found:
            found.append(entry)
    return sorted(found)


def _file_of(name: str, module: Any, may_be_installed: bool = True) -> Path | None:
    if name in MAINS or is_shared(name):
        return None
    # Not getattr: a lazy module would import what nobody asked for.
    facts = module.__dict__ if isinstance(module, ModuleType) else {}
    file = facts.get("__file__")
    # torch.ops has a relative __file__ that is nowhere.
    if not isinstance(file, str) or not file.endswith(".py") or not os.path.isabs(file):  # noqa: PTH117 - of thousands of modules: no Path of each
        return None
    # Of thousands of modules nearly all are installed: the disk is asked of the others alone.
    is_candidate = may_be_installed or _is_own_place(os.path.dirname(file))  # noqa: PTH120 - likewise
    return _straight(file) if is_candidate and os.path.isfile(file) else None  # noqa: PTH113 - likewise


def _straight(file: str) -> Path:
    """Return a path without ``..``, as in ``sys.path.append(folder + "/../lib")``: such a name is none in a bundle."""
    path, straight = Path(file), Path(os.path.normpath(file))
    if ".." not in path.parts:
        return path
    # Behind a link, the folder above may be another one.
    return straight if straight.exists() and straight.samefile(path) else path.resolve()


def is_shared(name: str) -> bool:
    """Tell whether a module is never captured, wherever it lies: of a framework, or of a debugger."""
    return name.startswith(_TOOLS) or name.partition(".")[0] in FRAMEWORKS


def is_users_file(path: Path) -> bool:
    """Tell whether ``path`` is a user's file: not the standard library's, nor an installed package's or script."""
    return _is_own_folder(path.parent)


@lru_cache(maxsize=4096)
def _is_own_place(folder: str) -> bool:
    """Tell the same of a folder that may be written with ``..``."""
    return ".." in folder or _is_own_folder(Path(folder))


@lru_cache(maxsize=4096)
def _is_own_folder(folder: Path) -> bool:
    libraries = _library_folders()
    return all(
        {"site-packages", "dist-packages"}.isdisjoint(each.parts) and libraries.isdisjoint((each, *each.parents))
        for each in (folder, folder.resolve())
    )


@lru_cache(maxsize=1)
def _library_folders() -> frozenset[Path]:
    names = ("stdlib", "platstdlib", "purelib", "platlib", "scripts")
    told = {sysconfig.get_path(name) for name in names} | set(site.getsitepackages()) | {site.getusersitepackages()}
    folders = {Path(folder) for folder in told if folder}
    return frozenset(folders | {folder.resolve() for folder in folders})


def _within(path: Path, folder: Path) -> bool:
    return path.is_relative_to(folder) or path.resolve().is_relative_to(folder.resolve())


def editable_roots() -> dict[str, Path]:
    """Return the folders of the distributions that are installed in editable mode, by distribution name."""
    roots = {}
    for distribution in metadata.distributions():
        try:
            told = json.loads(distribution.read_text("direct_url.json") or "{}")
            if told.get("dir_info", {}).get("editable"):
                roots[distribution.metadata["Name"]] = Path(url2pathname(urlparse(told["url"]).path))
        except (OSError, ValueError, KeyError, AttributeError, TypeError):  # a broken distribution is not ours to mend
            continue
    return roots


def main_file() -> Path | None:
    """Return the script that runs, ``None`` in a notebook and under a console script such as pytest."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if not file or not Path(file).is_file():
        return None
    path = _straight(str(Path(file).absolute()))
    return path if path.suffix == ".py" and is_users_file(path) else None


def main_module() -> str | None:
    """Return the module that ``python -m`` has started, ``None`` if this process was started in another way."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec.name.removesuffix(".__main__") if spec is not None and spec.name else None


def project_root(model_class: type, main: Path | None, repository_root: Path | None = None) -> Path:
    """Return the folder of the project: of the repository, of the packaging files, or of the imports.

    The working folder counts only where nothing else is known, in a notebook that does not tell its own place: Hydra
    changes it.
    """
    module = sys.modules.get(model_class.__module__)
    path = _file_of(model_class.__module__, module)
    model = ProjectModule(model_class.__module__, path) if path and is_users_file(path) else None
    anchors = [anchor for anchor in (model and model.path, main and main.absolute()) if anchor]
    base = (model.base or model.path.parent) if model else None
    root = _root_of(anchors, base, repository_root)
    # A packaging file within a package is no import root: the package's name would be lost.
    return base if base is not None and root != base and root.is_relative_to(base) else root


def _root_of(anchors: list[Path], base: Path | None, repository_root: Path | None) -> Path:
    if repository_root is not None and (not anchors or any(_within(anchor, repository_root) for anchor in anchors)):
        return Path(repository_root)
    for anchor in anchors:
        marked = _marked(anchor.parents)
        if marked is not None:
            return marked
    if base is not None:
        main = anchors[-1].parent
        return main if base.is_relative_to(main) else base
    return anchors[0].parent if anchors else _notebook_folder()


def _marked(parents: Iterable[Path]) -> Path | None:
    """The nearest folder with a packaging file; a home folder or the disk's root is nobody's project."""
    for folder in list(parents)[:6]:
        if folder in (Path.home(), Path(folder.anchor)):
            return None
        if any((folder / marker).exists() for marker in _MARKERS):
            return folder
    return None


def _notebook_folder() -> Path:
    names = (os.environ.get("JPY_SESSION_NAME"), vars(sys.modules.get("__main__")).get("__vsc_ipynb_file__"))
    for name in names:
        if isinstance(name, str) and Path(name).is_file():
            return Path(name).absolute().parent
    return Path.cwd()
