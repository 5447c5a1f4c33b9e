"""Restore what a run was started from: its captured sources, and the whole tree where its repository is at hand."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lightning_debugkit.provenance.carried.archive import open_archive
from lightning_debugkit.provenance.carried.manifest import Manifest
from lightning_debugkit.provenance.carried.restore import put, restore_files
from lightning_debugkit.provenance.repository.commit_tree import export_tree
from lightning_debugkit.provenance.repository.git import Unavailable, open_repository


@dataclass(frozen=True)
class Restored:
    """What was written."""

    count: int
    origin: str
    remarks: tuple[str, ...] = ()


def restore_run(manifest: Manifest, source: bytes | None, to: Path) -> Restored:
    """Write the code of a checkpoint into ``to``.

    Raises:
        ValueError: ``to`` is not empty, the sources are not what the manifest says, or there is nothing to restore.
        OSError: It cannot be written.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ValueError(f"restore needs a folder that is new or empty, got {str(to)!r}; nothing was written.")
    left_out = tuple(
        f"Left out of the snapshot: {each.get('path')} ({each.get('reason')})"
        for part in ("source", "tree")
        for each in manifest[part].get("skipped", ())
    )
    to = to.resolve()  # "." has no name, and a link is not what is to be replaced
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{to.name}-", dir=to.parent) as draft:
        whole = Path(draft) / "tree"
        from_git, links = _from_repository(manifest, whole), list[str]()
        if source is None and not from_git:
            raise ValueError(
                "restore needs the sources: this checkpoint carries hashes only, and the repository with "
                f"{manifest['tree'].get('ref') or 'its commit'} is not at hand; run it from there."
            )
        if source is not None:
            part = Path(draft) / "sources"
            restore_files(open_archive(source, manifest.files), part)
            # Over the tree: these are the raw bytes, where git may have changed the ends of lines.
            links = _lay(part, whole)
        count = sum(1 for path in whole.rglob("*") if not path.is_dir())
        put(whole, to)
    origin = "the whole tree, from the repository" if from_git else "the captured sources, from the checkpoint"
    replaced = tuple(f"{link} was a link; the files that ran lie in its place" for link in links)
    return Restored(count, origin, left_out + replaced)


def _lay(part: Path, whole: Path) -> list[str]:
    """Move the files of ``part`` into ``whole``; return the links that were in the way: they may lead anywhere."""
    links = []
    for file in sorted(path for path in part.rglob("*") if path.is_file()):
        place = whole / file.relative_to(part)
        for step in (*reversed(place.relative_to(whole).parents[:-1]), place.relative_to(whole)):
            found = whole / step
            if found.is_symlink():
                links.append(str(step))
                found.unlink()
            elif found == place and found.is_dir():
                shutil.rmtree(found)
            elif found != place and found.is_file():
                found.unlink()
        place.parent.mkdir(parents=True, exist_ok=True)
        file.replace(place)
    return links


def _from_repository(manifest: Manifest, to: Path) -> bool:
    """Write the run's tree into ``to`` if its repository is here; tell whether it is."""
    kept = manifest["tree"]
    if not kept.get("present"):
        return False
    for root in (Path(str(manifest["source"].get("root") or "")), Path.cwd()):
        try:
            with open_repository(root, 120.0) as repository:
                export_tree(repository, str(kept["tree"]), to)
                return True
        except (Unavailable, OSError):
            shutil.rmtree(to, ignore_errors=True)
    return False
