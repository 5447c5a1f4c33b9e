"""Which of the captured files the model's class uses."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lightning_debugkit.provenance.capture.imports_by_name import imported_by_name
from lightning_debugkit.provenance.capture.project_modules import MAINS
from lightning_debugkit.provenance.capture.reachable_files import Reach
from lightning_debugkit.provenance.capture.script_slice import ScriptSlice

_READS = (b"__file__", b"__path__", b"resources", b"get_data")
_TOLD_TO_READERS = (".md", ".rst", ".ipynb", "license", "licence")
_OF_TOOLS = ("pyproject.toml", "mkdocs.yml", "mkdocs.yaml", "compose.yml", "compose.yaml", "environment.yml")


def place_of_model(model_class: type, files: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return where a class is, as the part ``model`` of a manifest tells it."""
    module = model_class.__module__
    is_main = module in MAINS
    main = _main_of(files)
    path = main["path"] if is_main and main else modules_of(files).get(module)
    return {"module": "__main__" if is_main else module, "qualname": name_of(model_class), "path": path}


def model_part(
    model_class: type, files: Sequence[Mapping[str, Any]], contents: Mapping[str, bytes], made_of: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the part ``model`` of a manifest: where the class is, and the files that it, its bases and parts reach."""
    place = place_of_model(model_class, files)
    is_main, qualname = place["module"] == "__main__", place["qualname"]
    main = _main_of(files)
    by_name = modules_of(files)
    start = {base.__module__ for base in model_class.__mro__} | set(made_of)
    reach = reach_of(files, contents)
    further = files_of_main(main, qualname, by_name, reach, contents) if is_main and main else set()
    reached = _reached(start, further, by_name, reach, contents)
    texts = {each: contents[each] for each in reached & contents.keys()}
    if is_main and main and main["path"] in texts:
        texts[main["path"]] = text_of_class(main, qualname, contents)
    return {**place, "files": sorted(reached | _data_of(texts, files))}


def _main_of(files: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return next((file for file in files if file["kind"] in ("main", "cells")), None)


def _reached(
    start: set[str], further: set[str], by_name: Mapping[str, str], reach: Reach, contents: Mapping[str, bytes]
) -> set[str]:
    """Return the paths that modules and ``further`` files use, those included that they import by names in strings."""
    names = {path: name for name, path in by_name.items()}
    reached = _paths(reach, start, by_name) | further
    looked: set[str] = set()
    while waiting := reached - looked:
        looked |= waiting
        spelt: set[str] = set()
        for path in waiting & contents.keys():
            name = names.get(path, "")
            package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
            found, more = imported_by_name(contents[path], package)
            if more:
                return reached | set(by_name.values())  # each that is there may be one
            spelt |= found
        reached |= _paths(reach, spelt, by_name)
    return reached


def _paths(reach: Reach, start: set[str], by_name: Mapping[str, str]) -> set[str]:
    return {by_name[name] for name in reach.modules(start & by_name.keys())}


def _data_of(texts: Mapping[str, bytes], files: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the data and configuration files that the model may read.

    Those that one of its files names, and if one of them asks where it lies, those at or below its folder and in the
    packages of them all.

    Args:
        texts: The model's files; of a script, what the class needs.
        files: All captured files.
    """
    readers = {path for path, text in texts.items() if any(word in text for word in _READS)}
    folders = {_folder(path) for path in readers}
    if readers:
        folders |= {folder for file in files if file["path"] in texts and (folder := _package(file)) is not None}
    found = set()
    for file in files:
        path, name = str(file["path"]), str(file["path"]).rpartition("/")[2]
        if file["kind"] not in ("data", "config"):
            continue
        is_named = "." in name and any(name.encode() in text for text in texts.values())
        is_below = any(_is_below(path, folder) for folder in folders)
        is_for_others = name.startswith(".") or name in _OF_TOOLS or name.lower().endswith(_TOLD_TO_READERS)
        if is_named or (is_below and not is_for_others):
            found.add(path)
    return found


def _folder(path: str) -> str:
    return path[: path.rfind("/") + 1]


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder) and (bool(folder) or not path.startswith("@"))  # those lie elsewhere


def _package(file: Mapping[str, Any]) -> str | None:
    """Return the folder of the top-level package that a file is of, ``None`` if it is of none."""
    *folders, name = str(file["path"]).split("/")
    parents = str(file.get("module") or "").split(".")
    depth = len(parents) - (name != "__init__.py")
    above = folders[: len(folders) - depth + 1]
    return "/".join(above) + "/" if 0 < depth <= len(folders) else None


def name_of(model_class: type) -> str:
    """Return the name by which a module knows a class: of one that a function has made, the name it was given there."""
    qualname = model_class.__qualname__
    if "<locals>" not in qualname:
        return qualname
    held = vars(sys.modules.get(model_class.__module__, object))
    return next((name for name, value in held.items() if value is model_class), qualname)


def modules_of(files: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the path of each captured module by its dotted names."""
    named: dict[str, str] = {}
    for file in files:
        for name in (file.get("module"), *(file.get("aliases") or ())):
            if isinstance(name, str):
                named.setdefault(name, str(file["path"]))
    return named


def reach_of(files: Sequence[Mapping[str, Any]], contents: Mapping[str, bytes]) -> Reach:
    """Return what follows imports among captured files."""
    named = modules_of(files)
    packages = frozenset(name for name, path in named.items() if path.rpartition("/")[2] == "__init__.py")
    return Reach({name: contents[path] for name, path in named.items() if path in contents}, packages)


def files_of_main(
    main: Mapping[str, Any], qualname: str, by_name: Mapping[str, str], reach: Reach, contents: Mapping[str, bytes]
) -> set[str]:
    """Return the paths that a class of the script uses: of what the script imports, only what the class needs."""
    package = str(main.get("module") or "").rpartition(".")[0]
    text = text_of_class(main, qualname, contents)
    return {str(main["path"])} | {by_name[name] for name in reach.text_leads(text, package)}


def text_of_class(main: Mapping[str, Any], qualname: str, contents: Mapping[str, bytes]) -> bytes:
    """Return what a class of the script needs of it."""
    return ScriptSlice.of(contents[main["path"]]).text_of([qualname.partition(".")[0]]).encode("utf-8", "replace")
