"""Compare the code of a checkpoint with what lies on this disk."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_debugkit.provenance.capture.drift import places
from lightning_debugkit.provenance.capture.left_out import known_files, left_out, skipped_of
from lightning_debugkit.provenance.capture.notebook_cells import CELLS
from lightning_debugkit.provenance.capture.project_modules import editable_roots
from lightning_debugkit.provenance.carried.archive import MOST_BYTES as _LARGEST
from lightning_debugkit.provenance.carried.archive import name_fault, open_archive
from lightning_debugkit.provenance.carried.manifest import Manifest
from lightning_debugkit.provenance.diff.comparison import CodeComparison, verdicts
from lightning_debugkit.provenance.diff.current_code import reader

Now = Callable[[str], bytes | None]


def places_of(manifest: Manifest, root: Path, files: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Path]:
    """Return where ``files``, else those captured, lie on this machine, if the project is at ``root``."""
    recorded = {str(name): Path(str(path)) for name, path in dict(manifest["source"].get("outside") or {}).items()}
    found = places(root, manifest.files if files is None else files, {**recorded, **editable_roots()})
    odd = {str(file["path"]) for file in left_out(skipped_of(manifest))}  # their names may be why they were left out
    return {path: place for path, place in found.items() if path in odd or not name_fault(path)}


def on_disk(manifest: Manifest, root: Path) -> Now:
    """Return what reads a file of the manifest as it is now, ``None`` where there is none."""
    where = places_of(manifest, root, known_files(manifest))

    def now(path: str) -> bytes | None:
        try:
            place = where[path]
            # Neither a device nor a pipe, which have no end, nor what cannot be code.
            return place.read_bytes() if place.is_file() and place.stat().st_size <= _LARGEST else None
        except (KeyError, OSError, ValueError):
            return None

    return now


def imported(manifest: Manifest, root: Path) -> Now:
    """Return what reads a file of the manifest as this process has it, or would import it; others at ``root``."""
    by_import, below = reader(manifest), on_disk(manifest, root)
    code = {str(file["path"]) for file in known_files(manifest) if file.get("kind") in ("module", "main", "cells")}
    return lambda path: by_import(path) if path in code else below(path)


def compare_with_disk(manifest: Manifest, source: bytes | None, now: Now, cells: bool = True) -> CodeComparison:
    """Compare the code of a checkpoint with that of now.

    Args:
        manifest: Of the checkpoint.
        source: Its sources, packed.
        now: Reads what a file holds now.
        cells: Compare the cells of a notebook, too; they lie in no file, only the notebook that runs has them.
    """
    contents = {} if source is None else open_archive(source, manifest.files).contents
    needed = str(manifest["model"].get("qualname") or "")
    files = [file for file in known_files(manifest) if cells or file.get("kind") != "cells"]
    return verdicts(files, contents, now, manifest.model_files, needed=needed)


def unified(manifest: Manifest, source: bytes, root: Path) -> Iterator[str]:
    """Yield the unified diff from the code of a checkpoint to the project at ``root``, files of the model first."""
    archive = open_archive(source, manifest.files)
    now = on_disk(manifest, root)
    model, known = set(manifest.model_files), editable_roots()
    for path in sorted((str(file["path"]) for file in manifest.files), key=lambda path: (path not in model, path)):
        then, here = archive[path], now(path)
        if then == here or path == CELLS:
            continue
        is_told = path.startswith("@") and path[1:].partition("/")[0] not in known and not path.endswith(".py")
        if is_told and here is not None:
            # Where it lies is a word of the checkpoint, which anybody may have written: it may be a private file.
            yield f"Files a/{path} and b/{path} differ, the latter outside of the project: its text is not shown"
            continue
        yield from _file(path, then, here)


def _file(path: str, then: bytes, now: bytes | None) -> Iterator[str]:
    before, after = _lines(then), _lines(now if now is not None else b"")
    if before is None or after is None:
        yield f"Binary files a/{path} and b/{path} differ"
        return
    names = f"a/{path}", f"b/{path}" if now is not None else "/dev/null"
    for line in difflib.unified_diff(before, after, *names, lineterm="\n"):
        yield line.removesuffix("\n")
        if not line.endswith("\n"):
            yield "\\ No newline at end of file"


def _lines(data: bytes) -> list[str] | None:
    try:
        return data.decode("utf-8").splitlines(keepends=True) if b"\0" not in data else None
    except UnicodeDecodeError:
        return None
