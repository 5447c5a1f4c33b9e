"""Which code this is, in git's words: commit, branch, what differs, where it came from."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any

from lightning_debugkit.core.secrets import scrub_url
from lightning_debugkit.provenance.repository.git import Repository, Unavailable
from lightning_debugkit.provenance.repository.status import Status, look, shown_path, submodules

_TOLD = 100
_DOING = (
    ("MERGE_HEAD", "merging"),
    ("rebase-merge", "rebasing"),
    ("rebase-apply", "rebasing"),
    ("CHERRY_PICK_HEAD", "cherry-picking"),
    ("REVERT_HEAD", "reverting"),
    ("BISECT_LOG", "bisecting"),
)
_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def identity(repository: Repository) -> dict[str, Any]:
    """Return what a repository is at, in plain types.

    ``dirty`` counts untracked files, too: what is imported need not be tracked. Files that the user hides from git
    (``assume-unchanged``) are told like the others.
    """
    status = look(repository).status
    return {
        "commit": status.commit,
        "branch": status.branch,
        "describe": _describe(repository) if status.commit else None,
        "dirty": bool(status.entries),
        "changed": [{"path": shown_path(each.path), "status": each.status} for each in status.entries[:_TOLD]],
        "changed_count": len(status.entries),
        "submodules": _submodules(repository, status),
        "remote": _remote(repository, status),
        "upstream": _upstream(status),
        "git": repository.version,
        "state": _state(repository),
    }


def bare_identity(path: Path) -> dict[str, Any] | None:
    """Return commit and branch of the repository that holds ``path``, without git; ``None`` if there is none to read.

    Reads ``HEAD``, the branch's file and ``packed-refs``; what differs from the commit takes git to say.
    """
    home = Path.home()
    for folder in (path.absolute(), *path.absolute().parents):
        if folder != path.absolute() and (folder == Path(folder.anchor) or home.is_relative_to(folder)):
            return None
        with contextlib.suppress(OSError, UnicodeDecodeError, RecursionError):
            if (folder / ".git").exists():
                return _head(_git_dir(folder / ".git"))
    return None


def _git_dir(dot_git: Path) -> Path:
    """Worktrees and submodules have a file there that says where it is."""
    if dot_git.is_dir():
        return dot_git
    place = dot_git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
    return dot_git.parent / place


def _head(git_dir: Path) -> dict[str, Any] | None:
    said = (git_dir / "HEAD").read_text(encoding="utf-8").strip()
    if _ID.fullmatch(said):
        return {"commit": said, "branch": None}
    if not said.startswith("ref: refs/"):
        return None
    name = said.removeprefix("ref: ")
    common = git_dir
    with contextlib.suppress(FileNotFoundError):
        common = git_dir / (git_dir / "commondir").read_text(encoding="utf-8").strip()
    return {"commit": _commit_of(common, name), "branch": name.removeprefix("refs/heads/")}


def _commit_of(common: Path, name: str) -> str | None:
    if ".." in name.split("/"):
        return None
    with contextlib.suppress(OSError):
        found = (common / name).read_text(encoding="utf-8").strip()
        return found if _ID.fullmatch(found) else None
    with contextlib.suppress(OSError):
        for line in (common / "packed-refs").read_text(encoding="utf-8", errors="replace").splitlines():
            commit, _, of = line.partition(" ")
            if of == name and _ID.fullmatch(commit):
                return commit
    return None


def _describe(repository: Repository) -> str | None:
    try:
        return repository.run("describe", "--tags", "--always", "--abbrev=10").decode(errors="replace").strip()
    except Unavailable as error:
        if error.reason == "timeout":
            raise
        return None


def _submodules(repository: Repository, status: Status) -> list[dict[str, Any]]:
    """The commit is that of the superproject; a submodule that is at another one is dirty."""
    dirty = {entry.path for entry in status.entries if entry.submodule.startswith("S")}
    return [
        {"path": shown_path(path), "commit": commit, "dirty": path in dirty}
        for path, commit in list(submodules(repository).items())[:_TOLD]
    ]


def _remote(repository: Repository, status: Status) -> str | None:
    """The remote of the branch, else ``origin``, else the first."""
    urls = {
        name.removeprefix("remote.").removesuffix(".url"): value
        for name, value in repository.config.items()
        if name.startswith("remote.") and name.endswith(".url")
    }
    of_branch = repository.config.get(f"branch.{status.branch}.remote", "")
    name = next((name for name in (of_branch, "origin", *urls) if name in urls), None)
    return None if name is None else scrub_url(urls[name])


def _upstream(status: Status) -> dict[str, Any] | None:
    if status.upstream is None:
        return None
    return {"name": status.upstream, "ahead": status.ahead, "behind": status.behind}


def _state(repository: Repository) -> list[str]:
    config = repository.config
    promisor = re.compile(r"extensions\.partialclone|remote\..*\.promisor")
    found = {
        "shallow": repository.is_shallow,
        "sparse": config.get("core.sparsecheckout") == "true",
        "partial": any(map(promisor.fullmatch, config)),
        "worktree": os.path.normpath(repository.git_dir) != os.path.normpath(repository.common_dir),
    }
    doing = [says for name, says in _DOING if (repository.git_dir / name).exists()]
    return [name for name, is_so in found.items() if is_so] + doing
