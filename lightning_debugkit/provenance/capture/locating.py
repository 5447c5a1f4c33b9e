"""Where an import would find a module now, and whether that is a user's file; nothing is imported."""

from __future__ import annotations

import sys
from collections.abc import Collection
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from lightning_debugkit.provenance.capture.project_modules import editable_roots, is_shared, is_users_file


def located(module: str) -> ModuleSpec | None:
    """Return where an import would find ``module`` now; unlike `importlib.util.find_spec`, nothing is imported."""
    path: Any = None
    spec: ModuleSpec | None = None
    name = ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        # By its last part: for a whole name it would look at the parent, which is not imported.
        spec = PathFinder.find_spec(part, path) or _by_other_finders(name, path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations) if spec.submodule_search_locations is not None else None
        if path is None and name != module:
            return None
    return spec


def _by_other_finders(name: str, path: Any) -> ModuleSpec | None:
    """Editable installs have finders of their own."""
    for finder in sys.meta_path:
        if "editable" in f"{getattr(finder, '__module__', '')}{getattr(finder, '__name__', '')}".lower():
            spec: ModuleSpec | None = finder.find_spec(name, path)
            if spec is not None:
                return spec
    return None


def file_of(module: str) -> Path | None:
    """Return the file of a module: of the imported one, else the one that an import would find."""
    held = getattr(sys.modules.get(module), "__dict__", {}).get("__file__")
    if held is None:
        spec = located(module)
        held = spec.origin if spec is not None and spec.has_location else None
    return Path(held) if isinstance(held, str) and held.endswith(".py") else None


def newcomer(module: str, captured: Collection[str]) -> tuple[str, Path] | None:
    """Return name and file of what ``module`` means now, if that is a user's file that a snapshot would hold.

    Code that was not captured was not there to be imported. What is installed is that of now, in editable mode too.

    Args:
        module: A dotted name; its end may be a name within a module.
        captured: Names of the captured modules.
    """
    if module.partition(".")[0] in sys.builtin_module_names or is_shared(module):
        return None
    name = ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        if name in captured:
            continue
        place = file_of(name)
        if place is not None:
            is_new = place.is_file() and is_users_file(place) and not _is_installed(place, captured)
            return (name, place) if is_new else None
        spec = located(name)
        if spec is None or spec.origin is not None:
            return None
    return None


def _is_installed(place: Path, captured: Collection[str]) -> bool:
    """Tell whether a file is of an editable installation, other than that of the captured code."""
    roots = [root for root in editable_roots().values() if place.is_relative_to(root)]
    here = [file for name in {each.partition(".")[0] for each in captured if roots} if (file := file_of(name))]
    return any(not any(file.is_relative_to(root) for file in here) for root in roots)
