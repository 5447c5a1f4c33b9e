"""Tell which captured files are no longer on disk as they were captured."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_Stat = tuple[int, int]


@dataclass
class DriftWatch:
    """Compare files with what they were: by time and size first, by content where those differ."""

    hashes: Mapping[Path, str]  # SHA-256 of each file when it was captured, by its place on disk
    _seen: dict[Path, _Stat | None] = field(default_factory=dict, init=False)
    _drifted: set[Path] = field(default_factory=set, init=False)

    def look(self) -> list[Path]:
        """Return the files that differ from what was captured, or are gone, in order."""
        for path, digest in self.hashes.items():
            stat = _stat(path)
            if path in self._seen and self._seen[path] == stat:
                continue
            self._seen[path] = stat
            if stat is None or _hash(path) != digest:
                self._drifted.add(path)
            else:
                self._drifted.discard(path)
        return sorted(self._drifted)


def places(root: Path, files: Iterable[Mapping[str, Any]], roots: Mapping[str, Path]) -> dict[str, Path]:
    """Return where captured files lie on this machine, by their path in the snapshot.

    Args:
        files: Files of a manifest.
        roots: Folders of installed sources, by distribution: files called ``@name/...`` lie there.

    >>> found = places(Path("/p"), [{"path": "a/b.py"}, {"path": "@lib/c.py"}], {"lib": Path("/q")})
    >>> {name: str(path) for name, path in found.items()}
    {'a/b.py': '/p/a/b.py', '@lib/c.py': '/q/c.py'}
    """
    found = {}
    for file in files:
        path = str(file["path"])
        if path.startswith("@"):
            name, _, rest = path[1:].partition("/")
            if name in roots:
                found[path] = roots[name] / rest
        elif file.get("kind") != "cells":  # a notebook's cells lie nowhere
            found[path] = root / path
    return found


def _stat(path: Path) -> _Stat | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
