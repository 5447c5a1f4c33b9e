"""Write a tree of a repository into a folder of its own; the repository and its working tree stay as they are."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from lightning_debugkit.provenance.repository.git import OFFLINE, Repository, Unavailable

_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_PROGRAMS = ("smudge", "process", "clean", "required")


def export_tree(repository: Repository, tree: str, to: Path) -> None:
    """Write the files of ``tree`` below ``to``, which must not exist yet; no filter program of the user runs.

    Args:
        repository: Whose objects.
        tree: Id of a tree, from a manifest that anybody may have written.
        to: Folder to make.

    Raises:
        Unavailable: There is no such tree, or it cannot be written.
    """
    if not _ID.fullmatch(tree):
        raise Unavailable("failed", detail=f"{tree[:80]!r} names no tree")
    if repository.run("cat-file", "-t", tree).strip() != b"tree":
        raise Unavailable("failed", detail=f"{tree} is no tree")
    settings = (*OFFLINE, *_without_programs(repository))
    with tempfile.TemporaryDirectory(prefix="lightning-debugkit-restore-") as folder:
        draft = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        repository.run("read-tree", tree, env=draft, settings=settings)
        to.mkdir(parents=True)
        repository.run("checkout-index", "--all", f"--prefix={to.absolute()}/", env=draft, settings=settings)


def _without_programs(repository: Repository) -> list[str]:
    """Configuration by which no filter of the user's runs; git-lfs would fetch, others may do anything."""
    names = {name.split(".", 1)[1].rpartition(".")[0] for name in repository.config if name.startswith("filter.")}
    return [f"filter.{name}.{key}={'false' if key == 'required' else ''}" for name in names for key in _PROGRAMS]
