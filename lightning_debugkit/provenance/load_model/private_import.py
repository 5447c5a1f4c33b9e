"""Captured modules beside those of now: the same packages again, under a private name."""

from __future__ import annotations

import atexit
import hashlib
import importlib
import importlib.machinery
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from lightning_debugkit.provenance.capture.left_out import writable
from lightning_debugkit.provenance.capture.locating import located, newcomer
from lightning_debugkit.provenance.capture.project_modules import is_users_file
from lightning_debugkit.provenance.carried.archive import Archive
from lightning_debugkit.provenance.carried.restore import restore_files
from lightning_debugkit.provenance.load_model.redirected_import import redirected_builtins

PREFIX = "_debugkit_"
_mounted: dict[str, Captured] = {}


class LeftOut(ModuleNotFoundError):
    """A module is wanted that the snapshot knows of and does not hold; the message says why."""


class Captured:
    """The modules of one snapshot, importable as ``_debugkit_<hash>.<name>``.

    Their absolute imports of each other stay among them, at once and later; all else is shared with the process.
    Nothing is imported before it is asked for.

    Args:
        name: The private name.
        folder: Where the files lie.
        files: Files of the manifest.
        contents: Their bytes; modules are read from here, so that nobody can change them on disk.
        skipped: What the manifest lists as left out, and is not among ``files``.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        files: Sequence[Mapping[str, Any]],
        contents: Mapping[str, bytes],
        skipped: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self.name = name
        self.folder = folder
        self.contents = {str(folder / path): data for path, data in contents.items()}
        self.places = _places(files, folder)
        self.namespaces = _namespaces(self.places)
        self.skipped = {str(file.get("path")): file for file in skipped}
        left_out = [str(file["module"]) for file in self.skipped.values() if file.get("module")]
        self.tops = {module.partition(".")[0] for module in (*self.places, *left_out)}
        self.main: ModuleType | None = None
        self._newcomers: dict[str, Path | None] = {}
        self.builtins = redirected_builtins(self)

    def has(self, module: str) -> bool:
        """Tell whether ``module``, a dotted name as it was at training, is captured."""
        return module in self.places or module in self.namespaces

    def owns(self, module: str) -> bool:
        """Tell whether a name belongs to the captured packages, be it captured or not."""
        return module.partition(".")[0] in self.tops

    def newcomer(self, module: str) -> Path | None:
        """Return the user's file that ``module`` means now, if it is none of the snapshot's and it would hold it."""
        if module not in self._newcomers:
            found = newcomer(module, self.places)
            self._newcomers[module] = found[1] if found else None
        return self._newcomers[module]

    def private(self, module: str) -> str:
        """Return the name that ``module`` has here."""
        return f"{self.name}.{module}"

    def module(self, module: str) -> ModuleType:
        """Import and return a captured module; this runs its code."""
        if module == "__main__" and self.main is not None:
            return self.main
        return importlib.import_module(self.private(module))

    def spec(self, module: str) -> ModuleSpec | None:
        """Return how to import a captured module."""
        full, file = self.private(module), self.places.get(module)
        if file is not None:
            loader = _CapturedLoader(full, str(file))
            loader.captured = self
            folders = [str(file.parent)] if file.name == "__init__.py" else None
            return importlib.util.spec_from_file_location(full, file, loader=loader, submodule_search_locations=folders)
        if module in self.namespaces:
            namespace = ModuleSpec(full, None, is_package=True)
            namespace.submodule_search_locations = sorted(self.namespaces[module])
            return namespace
        return self._shared(module, full)

    def _shared(self, module: str, full: str) -> ModuleSpec | None:
        """What was not captured and can be shared: compiled extensions, other people's part of a namespace."""
        living, found = sys.modules.get(module), located(module)
        origin = str(found.origin) if found is not None else str(getattr(living, "__file__", None))
        if origin.endswith(tuple(EXTENSION_SUFFIXES)):
            if living is not None:
                return ModuleSpec(full, Alias(living))
            return importlib.util.spec_from_file_location(full, origin, loader=ExtensionFileLoader(full, origin))
        if module.partition(".")[0] in self.namespaces and found is not None and not is_users_file(Path(origin)):
            return ModuleSpec(full, Alias(importlib.import_module(module)))
        self._explain(module, full)
        return None

    def _explain(self, module: str, full: str) -> None:
        file = module.replace(".", "/") + ".py"
        for path, each in self.skipped.items():
            if each.get("module") == module or path == file or path.endswith("/" + file):
                reason = each.get("reason")
                raise LeftOut(f"The snapshot does not hold {module}: {path} was left out ({reason}).", name=full)


class Alias(Loader):
    """Lets a module that exists already stand under another name, unchanged."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.spec = module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec  # the import system has just put the other name's there


class _CapturedLoader(SourceFileLoader):
    captured: Captured

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = self.captured.builtins
        super().exec_module(module)

    def get_data(self, path: str | bytes) -> bytes:
        known = self.captured.contents.get(os.fsdecode(path))
        return super().get_data(os.fsdecode(path)) if known is None else known

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        """Bytecode is not kept: nobody could check it."""


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        name, _, module = fullname.partition(".")
        captured = _mounted.get(name) if name.startswith(PREFIX) else None
        return captured.spec(module) if captured is not None and module else None


def mount(archive: Archive, files: Sequence[Mapping[str, Any]], skipped: Iterable[Mapping[str, Any]] = ()) -> Captured:
    """Make captured modules importable under a private name; nothing of them runs yet.

    The same files are mounted once: two models of one snapshot share their classes.

    Raises:
        OSError: The temporary folder cannot be written.
    """
    told = sorted((str(f["path"]), str(f["sha256"]), str(f.get("module")), str(f.get("kind"))) for f in files)
    name = PREFIX + hashlib.sha256(repr(told).encode()).hexdigest()[:12]
    if name in _mounted:
        return _mounted[name]
    folder = Path(tempfile.mkdtemp(prefix="lightning-debugkit-"))
    atexit.register(_clear, folder, os.getpid())
    restore_files(writable(archive), folder / "source")
    captured = Captured(name, folder / "source", files, archive.contents, skipped)
    _mounted[name] = captured
    package = ModuleType(name, "Modules of a code snapshot.")
    package.__path__ = []
    package.__spec__ = ModuleSpec(name, None, is_package=True)
    sys.modules[name] = package
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    return captured


def _places(files: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, Path]:
    """The file of each module, by the names under which it was imported."""
    places: dict[str, Path] = {}
    for file in files:
        if not str(file["path"]).endswith(".py"):
            continue
        names = (file.get("module"), *(file.get("aliases") or ()))
        for name in names:
            if isinstance(name, str) and all(part.isidentifier() for part in name.split(".")):
                places.setdefault(name, folder / str(file["path"]))
    for file in files:
        # A script may be imported by others, as `from train import Config`.
        path = Path(str(file["path"]))
        if file.get("kind") == "main" and not file.get("module") and path.stem.isidentifier():
            places.setdefault(path.stem, folder / path)
    return places


def _namespaces(places: Mapping[str, Path]) -> dict[str, set[str]]:
    """The folders of packages without an ``__init__``."""
    found: dict[str, set[str]] = {}
    for module, file in places.items():
        folder = file.parent if file.name == "__init__.py" else file
        parent = module
        while "." in parent:
            parent, folder = parent.rpartition(".")[0], folder.parent
            if parent not in places:
                found.setdefault(parent, set()).add(str(folder))
    return found


def _clear(folder: Path, process: int) -> None:
    if os.getpid() == process:  # a fork has the folder of its parent
        shutil.rmtree(folder, ignore_errors=True)
