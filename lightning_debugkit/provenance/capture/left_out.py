"""Files that a snapshot does not hold but knows by their hash: the model may use them all the same."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from lightning_debugkit.provenance.capture.locating import file_of
from lightning_debugkit.provenance.carried.archive import Archive, name_fault
from lightning_debugkit.provenance.carried.manifest import Manifest

_HASH = re.compile(r"[0-9a-f]{64}")


def left_out(skipped: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what a manifest's ``skipped`` says of files whose text was left out, in the form of captured files."""
    return [dict(each) for each in skipped if _is_known(each)]


def skipped_of(manifest: Manifest) -> list[Mapping[str, Any]]:
    """Return what a manifest says of the files that its sources lack; anybody may have written it."""
    held = manifest["source"].get("skipped")
    return [each for each in held if isinstance(each, Mapping)] if isinstance(held, list) else []


def known_files(manifest: Manifest) -> list[dict[str, Any]]:
    """Return the files that a manifest knows by their hash: captured, or left out."""
    return [*manifest.files, *left_out(skipped_of(manifest))]


def with_unchanged(archive: Archive, manifest: Manifest) -> tuple[Archive, list[dict[str, Any]]]:
    """Return the captured files, and with them those that were left out and that an import would find unchanged."""
    contents, found = dict(archive.contents), list[dict[str, Any]]()
    for file in left_out(skipped_of(manifest)):
        place = file_of(file["module"]) if file.get("module") else None
        try:
            data = place.read_bytes() if place is not None else None
        except OSError:
            continue
        if data is not None and hashlib.sha256(data).hexdigest() == file["sha256"]:
            contents[file["path"]] = data
            found.append(file)
    return Archive(contents), found


def writable(archive: Archive) -> Archive:
    """Return the files whose names may be written on every system."""
    return Archive({path: archive[path] for path in archive if not name_fault(path)})


def _is_known(file: Mapping[str, Any]) -> bool:
    """Anybody may have written it; a name that is none on another system is one here."""
    path, digest, module = file.get("path"), file.get("sha256"), file.get("module")
    if not (isinstance(path, str) and isinstance(digest, str) and isinstance(file.get("kind"), str)):
        return False
    is_below = not any(part in ("", ".", "..") for part in path.split("/")) and not re.search(r"[\\:\0]", path)
    is_name = module is None or (isinstance(module, str) and all(part.isidentifier() for part in module.split(".")))
    aliases = file.get("aliases") or []
    is_list = isinstance(aliases, list) and all(isinstance(name, str) for name in aliases)
    return is_below and is_name and is_list and _HASH.fullmatch(digest) is not None
