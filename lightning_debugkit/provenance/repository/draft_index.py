"""A copy of the user's index to work on, in a folder for temporary files; the index itself is never written."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lightning_debugkit.core.atomic_files import is_abandoned, is_old, locked
from lightning_debugkit.provenance.repository.git import Repository, Unavailable

_PREFIX = "lightning-debugkit-index-"
_HIDDEN = re.compile(rb"(?:^|\0)([a-zS]) \d+ [0-9a-f]+ \d\t([^\0]+)")
_FLAGS = (("--no-assume-unchanged", b"abcdefghijklmnopqrstuvwxyz"), ("--no-skip-worktree", b"sS"))


@contextlib.contextmanager
def draft_index(repository: Repository) -> Iterator[dict[str, str]]:
    """Yield the variable by which git takes a copy of the user's index for its own.

    In the copy no file is hidden: one that is marked ``assume-unchanged``, or ``skip-worktree`` though it is there, is
    looked at like the others. What killed processes left of such copies is removed first.

    Raises:
        Unavailable: The copy cannot be made.
    """
    with contextlib.ExitStack() as stack:
        try:
            sweep_indexes()
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            # It has its name once it is held: nobody finds it free before.
            (folder / "unheld").touch(mode=0o600)
            if (lock := locked(folder / "unheld")) is not None:
                stack.callback(os.close, lock)
                (folder / "unheld").rename(folder / "lock")
            draft = folder / "index"
            with contextlib.suppress(FileNotFoundError):  # nothing was ever added
                # With its time: git reads a file again that was changed in the same tick as the index.
                shutil.copy2(repository.index, draft)
        except OSError as error:
            raise Unavailable("failed", "Make room in the folder for temporary files.", str(error)) from error
        variable = {"GIT_INDEX_FILE": str(draft)}
        _reveal(repository, variable)
        yield variable


def _reveal(repository: Repository, variable: dict[str, str]) -> None:
    """Absent files of a sparse checkout stay as the index has them: nobody deleted them."""
    hidden = _HIDDEN.findall(repository.table)
    if not hidden:
        return
    sparse = repository.config.get("core.sparsecheckout") == "true"
    root = os.fsencode(repository.root) + b"/"
    present = [(tag, path) for tag, path in hidden if not sparse or os.path.lexists(root + path)]
    for option, tags in _FLAGS:
        paths = b"".join(path + b"\0" for tag, path in present if tag in tags)
        if paths:
            repository.run("update-index", option, "-z", "--stdin", stdin=paths, env=variable)


def sweep_indexes() -> None:
    """Remove the copies of processes of ours that no longer live."""
    for folder in Path(tempfile.gettempdir()).glob(_PREFIX + "*"):
        with contextlib.suppress(OSError):
            own = not hasattr(os, "getuid") or folder.lstat().st_uid == os.getuid()
            lock = folder / "lock"
            if own and not folder.is_symlink() and (is_abandoned(lock) if lock.exists() else is_old(folder)):
                shutil.rmtree(folder, ignore_errors=True)
