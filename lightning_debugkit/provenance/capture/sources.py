"""Collect the code that a run uses: raw bytes of the project's files, with what was left out and why."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from lightning_debugkit.core.secrets import secret_name, secret_text
from lightning_debugkit.provenance.capture.left_out import left_out
from lightning_debugkit.provenance.capture.model_files import model_part, place_of_model
from lightning_debugkit.provenance.capture.notebook_cells import CELLS, notebook_source
from lightning_debugkit.provenance.capture.package_files import PackageFiles, imported_elsewhere, imported_siblings
from lightning_debugkit.provenance.capture.project_modules import ProjectModule, editable_roots
from lightning_debugkit.provenance.capture.staleness import is_stale, process_start
from lightning_debugkit.provenance.carried.archive import name_fault, pack, same_place

_MOST_DATA = 40_000_000  # bytes unpacked of what is no Python
_MOST_GLOBBED = 1000
_MOST_HASHED = 100_000_000  # bytes read of what is left out
_CODE = ("main", "cells", "module")


@dataclass(frozen=True)
class Source:
    """What was collected."""

    root: Path
    # `path`, `sha256`, `bytes`, `kind`, `module`, `stale` of each file, in order of the paths
    files: list[dict[str, Any]]
    # `path`, `reason`, `bytes` of what was left out; of files that are no secret by their name also `sha256`, `kind`,
    # `module`
    skipped: list[dict[str, Any]]
    import_roots: list[str]  # folders below the root that must be on the import path
    main: str | None  # path of the script, or of the notebook's cells
    outside: dict[str, str]  # folders that lie elsewhere: what is called `@name/...` lies there
    contents: Mapping[str, bytes]  # bytes of each file
    withheld: Mapping[str, bytes]  # bytes of code that was left out; only what it imports is looked at
    packed: int  # bytes of all of it packed, about
    zip: bytes | None  # it; `None` if the code alone takes more than a bundle may, or there is none

    @property
    def _known(self) -> list[dict[str, Any]]:
        """The files taken, and those left out of which it is remembered which they were."""
        return [*self.files, *left_out(self.skipped)]

    def part(self) -> dict[str, Any]:
        """Return the part ``source`` of a manifest."""
        where = {"root": str(self.root), "outside": self.outside, "import_roots": self.import_roots, "main": self.main}
        return {**where, "files": self.files, "skipped": self.skipped}

    def part_of_any(self, model_class: type) -> dict[str, Any]:
        """Return the part ``model`` for as long as nobody knows what the model uses: it may be any of the code."""
        code = sorted(str(file["path"]) for file in self._known if file["kind"] in _CODE)
        return {**place_of_model(model_class, self._known), "files": code}

    def part_of_model(self, model_class: type, made_of: Iterable[str] = ()) -> dict[str, Any]:
        """Return the part ``model`` of a manifest: in a large project this takes longer than to collect the files.

        Args:
            model_class: Class of the model.
            made_of: Modules that define the classes of its parts: a configuration may have chosen them.
        """
        return model_part(model_class, self._known, {**self.contents, **self.withheld}, made_of)


def collect(
    root: Path,
    modules: Iterable[ProjectModule],
    main: Path | None,
    include: Iterable[str] = (),
    max_file: int = 1_000_000,
    max_bundle: int = 20_000_000,
) -> Source:
    """Return the project's imported modules, their packages' other files, the script and further files.

    Args:
        modules: What `project_modules` has found.
        main: The script; without one, the cells of the notebook that runs, if one does.
        include: Patterns of further files below the root, such as ``*.yaml``.
        max_file: Bytes of the largest file taken.
        max_bundle: Packed bytes of all; what is no code is left out first.
    """
    root = Path(root).absolute()
    collecting = _Collecting(root, max_file, max_bundle)
    named = sorted(modules)
    script = main.absolute() if main else None
    if script is not None:
        collecting.add_script(script, named)
    elif cells := notebook_source():
        collecting.keep(CELLS, cells.encode("utf-8", "replace"), "cells", None, False)
        collecting.main = CELLS
    for module in named:
        if module.path != script:
            collecting.add(module.path, "module", module.name, module.base)
    collecting.add_neighbours(named, script)
    for pattern in include:
        try:
            found = sorted(islice(root.glob(pattern), _MOST_GLOBBED))
        except (ValueError, NotImplementedError, OSError) as error:
            collecting.skip(pattern, f"no file can be looked for by this name: {error}", 0)
            continue
        for path in found:
            if path.is_file():
                collecting.add(path, "config", None, None)
    return collecting.result()


@dataclass
class _Collecting:
    """Takes one file after another while there is room."""

    root: Path
    max_file: int
    max_bundle: int
    main: str | None = None
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    withheld: dict[str, bytes] = field(default_factory=dict)
    skipped: dict[str, dict[str, Any]] = field(default_factory=dict)
    import_roots: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.editable = editable_roots()
        self.outside: dict[str, Path] = {}
        self.places: dict[str, str] = {}
        self.folders: dict[str, str] = {}
        self.start = process_start()
        self.packed = 0
        self.data_bytes = 0
        self.to_hash = _MOST_HASHED

    def add_script(self, script: Path, named: Iterable[ProjectModule]) -> None:
        entry = next((module for module in named if module.path == script), None)
        self.main = self.add(script, "main", entry.name if entry else None, entry.base if entry else script.parent)

    def add_neighbours(self, named: list[ProjectModule], script: Path | None) -> None:
        """Take what lies in the imported packages, and what the captured code would import later."""
        bases = {module.base for module in named if module.base is not None} | ({script.parent} if script else set())
        packages = PackageFiles(self.skip)
        for base, top in sorted({(m.base, m.name.partition(".")[0]) for m in named if m.base is not None}):
            packages.walk(base, top)
        texts = [text for path, text in self.contents.items() if self.files[path]["kind"] in _CODE]
        for base in sorted(bases):
            packages.look_for(base, imported_siblings(texts, base))
        names = [*(module.name for module in named), *(name for _, name, _ in packages.code if name)]
        known = {name.partition(".")[0] for name in names}
        for base, top in imported_elsewhere(texts, known):
            packages.look_for(base, [top])
        for path, name, base in packages.code:
            self.add(path, "module", name, base)
        for path in packages.data:
            self.add(path, "data", None, None)

    def add(self, path: Path, kind: str, module: str | None, base: Path | None) -> str | None:
        """Take a file; return its path in the bundle, ``None`` if it is left out."""
        place = self.place_of(path, base)
        if place in self.files:
            _name(self.files[place], module)
            self._root_of(base)
            return place
        if place in self.skipped:
            _name(self.skipped[place], module)
            return None
        try:
            stat = path.stat()
            reason = f"too large: {stat.st_size:,} bytes" if stat.st_size > self.max_file else secret_name(place)
            # A short password could be found out from its hash: of what is a secret by its name, nothing is read.
            if secret_name(place) or (reason and stat.st_size > self.to_hash):
                self.skip(place, str(reason), stat.st_size)
                return None
            data = path.read_bytes()
        except OSError as error:
            self.skip(place, f"cannot be read: {error.strerror or error}", 0)
            return None
        reason = reason or name_fault(place) or secret_text(data)
        if reason:
            self._leave_out(place, reason, data, kind, module)
            return None
        stale = kind in _CODE and is_stale(data, path, stat.st_mtime, module, self.start)
        kept = self.keep(place, data, kind, module, stale)
        if kept and kind in _CODE:
            self._root_of(base)
        return place if kept else None

    def keep(self, place: str, data: bytes, kind: str, module: str | None, stale: bool) -> bool:
        """Put bytes into the bundle if there is room; code is kept in any case."""
        here = same_place(place)
        above = [here[:at] for at, character in enumerate(here) if character == "/"]
        taken = self.places.get(here) or next((self.places[folder] for folder in above if folder in self.places), None)
        if taken not in (None, place) or here in self.folders:
            reason = f"one name with {taken or self.folders[here]} on some systems"
            self._leave_out(place, reason, data, kind, module)
            return False
        self.places[here] = place
        self.folders.update((folder, place[: len(folder)]) for folder in above)
        packed = len(zlib.compress(data, 6)) + 2 * len(place) + 150  # what a zip file writes beside
        is_full = self.packed + packed > self.max_bundle or self.data_bytes + len(data) > _MOST_DATA
        if kind not in _CODE and is_full:
            self._leave_out(place, f"the bundle is full: {self.max_bundle:,} bytes", data, kind, module)
            return False
        self.packed += packed
        self.data_bytes += len(data) if kind not in _CODE else 0
        digest = hashlib.sha256(data).hexdigest()
        named = {"path": place, "sha256": digest, "bytes": len(data), "kind": kind, "module": module, "stale": stale}
        self.files[place] = named
        self.contents[place] = data
        return True

    def skip(self, place: str | Path, reason: str, size: int) -> None:
        """Tell what is left out; a place on disk is told by its path in the bundle."""
        told = self.place_of(place, None) if isinstance(place, Path) else place
        # A name that is no UTF-8 cannot be written down as it is.
        told = told.encode("utf-8", "backslashreplace").decode()
        self.skipped.setdefault(told, {"path": told, "reason": reason, "bytes": size})

    def _leave_out(self, place: str, reason: str, data: bytes, kind: str, module: str | None) -> None:
        """Leave a text out, but remember which it was: the model may use it."""
        self.skip(place, reason, len(data))
        self.to_hash -= len(data)
        if place in self.skipped:
            self.skipped[place] |= {"sha256": hashlib.sha256(data).hexdigest(), "kind": kind, "module": module}
            if kind in _CODE:
                self.withheld[place] = data

    def place_of(self, path: Path, base: Path | None) -> str:
        """Return the path in the bundle: below the root, or below ``@name`` for what lies elsewhere."""
        if path.is_relative_to(self.root) and (base is None or base.is_relative_to(self.root)):
            return path.relative_to(self.root).as_posix()
        folder = self._outside_of(path, base)
        return f"@{self._label(folder)}/{path.relative_to(folder).as_posix()}"

    def _outside_of(self, path: Path, base: Path | None) -> Path:
        for root in self.editable.values():
            if path.is_relative_to(root) and (base is None or base.is_relative_to(root)):
                return root
        known = [folder for folder in self.outside.values() if path.is_relative_to(folder)]
        return base or (known[0] if known else path.parent)

    def _label(self, folder: Path) -> str:
        for name, root in self.editable.items():
            if root == folder:
                self.outside[name] = root
                return name
        wanted = folder.name or "root"
        label, number = wanted, 1
        while label in self.editable or self.outside.get(label, folder) != folder:
            number += 1
            label = f"{wanted}-{number}"
        self.outside[label] = folder
        return label

    def _root_of(self, base: Path | None) -> None:
        if base is not None:
            place = self.place_of(base / "_", base).rpartition("/")[0]
            self.import_roots.add(place)

    def result(self) -> Source:
        code = sum(file["kind"] in _CODE for file in self.files.values())
        fits = self.packed <= self.max_bundle and code > 0
        return Source(
            root=self.root,
            files=[self.files[path] for path in sorted(self.files)],
            skipped=[self.skipped[path] for path in sorted(self.skipped)],
            import_roots=sorted(self.import_roots),
            main=self.main,
            outside={name: str(folder) for name, folder in sorted(self.outside.items())},
            contents=self.contents,
            withheld=self.withheld,
            packed=self.packed,
            zip=pack(self.contents) if fits else None,
        )


def _name(file: dict[str, Any], module: str | None) -> None:
    """Add a name under which a file was imported."""
    if module is None or file.get("module") == module:
        return
    if file.get("module") is None:
        file["module"] = module
    else:
        file.setdefault("aliases", []).append(module)
