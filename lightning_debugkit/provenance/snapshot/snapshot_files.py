"""Leave the code beside the run in a form to read: the sources as files, the differences as a patch."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

from lightning_debugkit.provenance.capture.capture import Capture
from lightning_debugkit.provenance.capture.environment import environment_difference
from lightning_debugkit.provenance.carried.archive import open_archive
from lightning_debugkit.provenance.carried.manifest import Malformed, Manifest
from lightning_debugkit.provenance.carried.restore import restore_files
from lightning_debugkit.provenance.repository.git import Unavailable, open_repository
from lightning_debugkit.provenance.repository.patch import patch

FOLDER = "code"
MANIFEST = "manifest.json"
PATCH = "changes.patch"
PREVIOUS = "previous.json"
SOURCES = "sources"
_MOST = 200


def write_snapshot_files(capture: Capture, run_folder: Path) -> Path:
    """Write what was captured into ``code/`` of a run folder; return that folder.

    Raises:
        OSError: It cannot be written.
    """
    folder = run_folder / FOLDER
    # A trial before the run that counts, such as Tuner.lr_find, has left its own there.
    shutil.rmtree(folder / SOURCES, ignore_errors=True)
    for name in (PATCH, PREVIOUS, MANIFEST):
        (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    if capture.source is not None:
        restore_files(open_archive(capture.source, capture.manifest.files), folder / SOURCES)
    if changes := _changes(capture):
        (folder / PATCH).write_bytes(changes)
    before = previous(run_folder, str(capture.manifest["source"].get("root")))
    if before is not None:
        told = {
            "id": before.id,
            "captured": before.data.get("captured"),
            "commit": before.commit,
            "environment": environment_difference(before["environment"], capture.manifest["environment"])[:_MOST],
        }
        (folder / PREVIOUS).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    # Last: who finds the manifest finds the rest.
    (folder / MANIFEST).write_text(json.dumps(capture.manifest.data, indent=1) + "\n", encoding="utf-8")
    return folder


def _changes(capture: Capture) -> bytes:
    """Return what the working tree had beyond its commit, as a patch."""
    kept, commit = capture.manifest["tree"], capture.manifest.commit
    if not kept.get("present") or not commit or not capture.manifest.is_dirty:
        return b""
    try:
        with open_repository(capture.root) as repository:
            return patch(repository, commit, str(kept["tree"]))
    except Unavailable:
        return b""


def previous(run_folder: Path, root: str) -> Manifest | None:
    """Return the manifest of the run before this one, ``None`` if there is none.

    Args:
        run_folder: Folder of this run; that of the other lies beside it.
        root: Folder of the project: beside it may lie other projects.
    """
    pattern = f"debugkit*/{FOLDER}/{MANIFEST}"
    homes, found = {run_folder.parent}, []
    with suppress(OSError):  # a folder that may be entered, but not listed
        homes.update(run_folder.parent.parent.iterdir())
    for home in homes:
        with suppress(OSError):  # one of others, who may remove it just now
            found += [(path.stat().st_mtime_ns, path) for path in home.glob(pattern)]
    for _, path in sorted(found, reverse=True):
        if path.is_relative_to(run_folder):
            continue
        try:
            found_one = Manifest.from_json(path.read_text(encoding="utf-8"))
        except (OSError, Malformed):
            continue
        if found_one["source"].get("root") == root:
            return found_one
    return None
