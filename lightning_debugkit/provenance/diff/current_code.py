"""The code of now that stands where captured code stood: found by the names of modules, without importing them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from pathlib import Path

from lightning_debugkit.provenance.capture.imports_by_name import imported_by_name
from lightning_debugkit.provenance.capture.left_out import known_files
from lightning_debugkit.provenance.capture.locating import file_of, newcomer
from lightning_debugkit.provenance.capture.model_files import modules_of, text_of_class
from lightning_debugkit.provenance.capture.notebook_cells import notebook_source
from lightning_debugkit.provenance.capture.parsing import NO_PROGRAM
from lightning_debugkit.provenance.capture.project_modules import main_file
from lightning_debugkit.provenance.capture.reachable_files import imported_names
from lightning_debugkit.provenance.capture.script_slice import NotFound
from lightning_debugkit.provenance.capture.staleness import is_stale, process_start
from lightning_debugkit.provenance.carried.manifest import Manifest


def reader(manifest: Manifest) -> Callable[[str], bytes | None]:
    """Return what reads the present form of a captured file, ``None`` where there is none.

    A module is looked for where an import would find it now, wherever the project has moved or was copied to; any other
    file where it lies from there. One that was edited after it was imported has no known form.
    """
    by_path: Mapping[str, Mapping[str, object]] = {str(file["path"]): file for file in known_files(manifest)}
    home = _Home(manifest)

    def now(path: str) -> bytes | None:
        file = by_path.get(path, {})
        if file.get("kind") == "cells":
            return (notebook_source() or "").encode("utf-8", "replace") or None
        module = str(file["module"]) if file.get("module") else None
        place = file_of(module) if module else _script(path, file.get("kind")) or home.of(path)
        try:
            return _text(place, module) if place is not None else None
        except OSError:
            return None

    return now


def _text(place: Path, module: str | None) -> bytes | None:
    """What a file holds, unless the imported module is known to be of another text."""
    text = place.read_bytes()
    if module is not None and is_stale(text, place, place.stat().st_mtime, module, process_start()):
        return None
    return text


def appeared(manifest: Manifest, contents: Mapping[str, bytes]) -> list[str]:
    """Return the modules that the model's files try to import, that were not there when captured, and now are."""
    captured = set(modules_of(known_files(manifest)))
    captured |= {Path(str(file["path"])).stem for file in manifest.files if file.get("kind") == "main"}
    qualname = str(manifest["model"].get("qualname") or "")
    found = set()
    for file in manifest.files:
        path, name = str(file["path"]), str(file.get("module") or "")
        if path not in manifest.model_files or path not in contents:
            continue
        package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
        text = _of_model(file, contents, qualname)
        asked = imported_names(text, package) | imported_by_name(text, package)[0]
        found |= {new[0] for each in asked - captured if (new := newcomer(each, captured)) is not None}
    return sorted(found)


def _of_model(file: Mapping[str, object], contents: Mapping[str, bytes], qualname: str) -> bytes:
    """Return what the model needs of a file: of a script, what the class needs."""
    try:
        return (
            text_of_class(file, qualname, contents)
            if file.get("kind") in ("main", "cells")
            else contents[str(file["path"])]
        )
    except (*NO_PROGRAM, NotFound):
        return contents[str(file["path"])]


def defines(module: str, qualname: str) -> bool:
    """Tell whether the file of ``module`` has a class statement of this name at its top level."""
    place = file_of(module)
    try:
        tree = ast.parse(place.read_bytes()) if place is not None else None
    except (OSError, *NO_PROGRAM):
        return False
    name = qualname.partition(".")[0]
    return tree is not None and any(isinstance(node, ast.ClassDef) and node.name == name for node in tree.body)


def _script(path: str, kind: object) -> Path | None:
    main = main_file() if kind == "main" else None
    return main if main is not None and main.name == Path(path).name else None


class _Home:
    """Where the files of a snapshot that are no modules lie now: as far from the modules as they lay then.

    The folder that the manifest names is another copy of the project, or gone, once this one was cloned or moved.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.root = Path(str(manifest["source"].get("root") or "."))
        self.modules = {path: name for name, path in modules_of(known_files(manifest)).items()}
        self.model_files = set(manifest.model_files)
        self.scripts = [str(file["path"]) for file in manifest.files if file.get("kind") == "main"]
        self.found: dict[str, Path | None] = {}

    def of(self, path: str) -> Path | None:
        folders = path.split("/")[:-1]
        shared = {known: _shared(folders, known.split("/")[:-1]) for known in (*self.modules, *self.scripts)}
        for known in sorted(shared, key=lambda each: (-shared[each], each not in self.model_files, each)):
            if path.startswith("@") and not shared[known]:
                break  # another folder than the project's
            rest = known.split("/")[shared[known] :]
            place = self._place(known)
            if place is not None and list(place.parts[-len(rest) :]) == rest:
                return place.parents[len(rest) - 1].joinpath(*path.split("/")[shared[known] :])
        return None if path.startswith("@") else self.root / path

    def _place(self, known: str) -> Path | None:
        if known not in self.found:
            module = self.modules.get(known)
            self.found[known] = file_of(module) if module else _script(known, "main")
        return self.found[known]


def _shared(one: list[str], other: list[str]) -> int:
    """How many folders two files share, from the first on."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
