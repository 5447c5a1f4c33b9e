"""Which of the captured files the model's class uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning_debugkit.provenance.reaching import Reach
from lightning_debugkit.provenance.slicing import Slice

_MAINS = ("__main__", "__mp_main__")


def model_part(model_class: type, files: Sequence[Mapping[str, Any]], contents: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the part ``model`` of a manifest: where the class is, and the files that it and its bases reach."""
    module = model_class.__module__
    is_main = module in _MAINS
    home = {"module": "__main__" if is_main else module, "qualname": model_class.__qualname__}
    main = next((file for file in files if file["kind"] in ("main", "cells")), None)
    by_name = modules_of(files)
    path = main["path"] if is_main and main else by_name.get(module)
    reached = reached_files({base.__module__ for base in model_class.__mro__}, files, contents)
    if is_main and main:
        reached |= files_of_main(main, model_class.__qualname__, files, contents)
    return {**home, "path": path, "files": sorted(reached)}


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


def reached_files(start: set[str], files: Sequence[Mapping[str, Any]], contents: Mapping[str, bytes]) -> set[str]:
    """Return the paths of the captured files that the modules in ``start`` use."""
    named = modules_of(files)
    return {named[name] for name in reach_of(files, contents).modules(start & named.keys())}


def files_of_main(
    main: Mapping[str, Any], qualname: str, files: Sequence[Mapping[str, Any]], contents: Mapping[str, bytes]
) -> set[str]:
    """Return the paths that a class of the script uses: of what the script imports, only what the class needs."""
    named = modules_of(files)
    package = str(main.get("module") or "").rpartition(".")[0]
    text = Slice.of(contents[main["path"]]).text_of([qualname.partition(".")[0]])
    return {str(main["path"])} | {named[name] for name in reach_of(files, contents).text_leads(text, package)}
