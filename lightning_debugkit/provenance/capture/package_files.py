"""Find what belongs to imported code though it was not imported: the rest of its packages, modules it imports later."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from lightning_debugkit.provenance.capture.locating import newcomer
from lightning_debugkit.provenance.capture.project_modules import FRAMEWORKS

_MOST_ENTRIES = 20_000
_MOST_DATA_OF_A_FOLDER = 200
_NOT_CODE = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages", "lightning_logs", "wandb"})
_BUILT = frozenset({".pyc", ".pyo", ".so", ".pyd", ".dll", ".dylib", ".o", ".a", ".ckpt", ".pt", ".pth", ".swp"})
_IMPORT = re.compile(rb"^[ \t]*(?:from|import)[ \t]+([A-Za-z_]\w*(?:[ \t]*,[ \t]*[A-Za-z_]\w*)*)", re.MULTILINE)
_BY_NAME = re.compile(rb"(?:import_module|__import__)\(\s*[\"']([A-Za-z_]\w*)")


class PackageFiles:
    """The files of packages, found by walking their folders."""

    def __init__(self, skip: Callable[[Path, str, int], None]) -> None:
        self.skip = skip  # told of what is left out: place, reason, bytes
        self.code: list[tuple[Path, str | None, Path]] = []
        self.data: list[Path] = []
        self._seen: set[Path] = set()

    def walk(self, base: Path, top: str) -> None:
        """Take the package ``top`` below ``base``: its modules, and what small files lie beside them."""
        folder = base / top
        if folder in self._seen or not folder.is_dir():
            return
        self._seen.add(folder)
        entries = 0
        for here, folders, names in os.walk(folder):
            folders[:] = sorted(f for f in folders if f not in _NOT_CODE and not f.startswith("."))
            folders[:] = [f for f in folders if not (Path(here, f) / "pyvenv.cfg").exists()]
            entries += len(names) + len(folders)
            if entries > _MOST_ENTRIES:
                self.skip(Path(here), f"the folder of {top} holds more than {_MOST_ENTRIES:,} entries", 0)
                return
            self._take(Path(here), sorted(names), base)

    def _take(self, folder: Path, names: list[str], base: Path) -> None:
        code = [folder / name for name in names if name.endswith(".py")]
        data = [folder / name for name in names if not name.endswith(".py") and not name.startswith(".")]
        data = [path for path in data if path.suffix not in _BUILT]
        self.code += [(path, module_name(path, base), base) for path in code]
        if len(data) > _MOST_DATA_OF_A_FOLDER:
            self.skip(folder, f"a folder of {len(data):,} files that are no code is taken for a data set", 0)
        else:
            self.data += data

    def look_for(self, base: Path, names: Iterable[str]) -> None:
        """Take the modules and packages called ``names`` below ``base``, and what those import there."""
        waiting, seen = set(names), set()
        while waiting:
            name = waiting.pop()
            seen.add(name)
            file = base / f"{name}.py"
            if (base / name / "__init__.py").is_file():
                self.walk(base, name)
            elif file.is_file():
                self.code.append((file, name, base))
                waiting |= imported_siblings([_text(file)], base) - seen


def imported_siblings(texts: Iterable[bytes], base: Path) -> set[str]:
    """Return the top-level names that ``texts`` import somewhere and that lie in ``base``."""
    return {name for name in _imported_tops(texts) if lies_in(base, name)}


def lies_in(folder: Path, name: str) -> bool:
    """Tell whether a folder holds a module or package of that name."""
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()


def imported_elsewhere(texts: Iterable[bytes], known: Collection[str]) -> Iterator[tuple[Path, str]]:
    """Yield where the other modules lie that ``texts`` import later, and their names: users' files on the import path.

    Args:
        known: Top-level names that are known already.
    """
    for name in sorted(_imported_tops(texts).difference(known, sys.modules.copy())):
        found = newcomer(name, known)
        if found is not None:
            place = found[1]
            yield (place.parent.parent if place.name == "__init__.py" else place.parent), name


def _imported_tops(texts: Iterable[bytes]) -> set[str]:
    said = [found for text in texts for found in (*_IMPORT.findall(text), *_BY_NAME.findall(text))]
    names = {name.strip() for found in said for name in found.split(b",")}
    return {name.decode("ascii", "ignore") for name in names} - FRAMEWORKS


def module_name(path: Path, base: Path) -> str | None:
    """Return the dotted name that ``path`` has when ``base`` is on the import path, ``None`` if it can have none.

    >>> module_name(Path("/p/src/pkg/__init__.py"), Path("/p/src")), module_name(Path("/p/a-b.py"), Path("/p"))
    ('pkg', None)
    """
    parts = list(path.relative_to(base).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts) if parts and all(part.isidentifier() for part in parts) else None


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
