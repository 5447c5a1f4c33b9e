"""Keep a whole working tree as a commit of its own, and write such a tree into a folder.

Index, head, branches and files of the repository stay as they are.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lightning_debugkit.provenance.repository.file_choice import Choice, Skipped, choose, folded_skips
from lightning_debugkit.provenance.repository.git import OFFLINE, WITHOUT_LFS, Repository, Unavailable
from lightning_debugkit.provenance.repository.side_refs import PHASE, RUN, reference
from lightning_debugkit.provenance.repository.status import WorkingTree, last_working_tree

MAX_TOTAL = 50_000_000
MAX_COUNT = 10_000
_NOBODY = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "lightning-debugkit"), ("EMAIL", "debugkit@localhost"))
}


@dataclass(frozen=True)
class CommittedTree:
    """A working tree as it was."""

    tree: str  # id of its tree: two that are equal hold the same files
    commit: str | None  # id of the commit it was kept as, `None` if it was not
    ref: str | None  # reference that keeps the commit
    skipped: tuple[Skipped, ...]  # what it lacks of the working tree, and why


def write_tree(repository: Repository, max_file: int = 1_000_000, max_total: int = MAX_TOTAL) -> CommittedTree:
    """Write all files of the working tree that git does not ignore as a tree object.

    A file that differs from the commit is left out if it is larger than ``max_file``, holds a secret, or comes when
    ``max_total`` bytes are reached. One that does not differ stays, whatever its size: git has it already.
    """
    return _write(repository, last_working_tree(repository), max_file, max_total)


def commit_tree(
    repository: Repository,
    run_id: str,
    message: str,
    max_file: int = 1_000_000,
    trailers: Mapping[str, str] | None = None,
) -> CommittedTree:
    """Keep the working tree at the start of a run as a commit, on a reference of the run's own.

    Raises:
        Unavailable: Git cannot, the time is up, or there is such a reference already.
    """
    ref = reference(run_id)
    look = last_working_tree(repository)
    written = _write(repository, look, max_file, MAX_TOTAL)
    parents = [look.status.commit] if look.status.commit else []
    text = _message(message, {RUN: run_id, PHASE: "start", **(trailers or {})})
    commit = _commit(repository, written.tree, parents, text)
    repository.run("update-ref", "--no-deref", ref, commit, "")  # only if there is none
    return replace(written, commit=commit, ref=ref)


def end_run(
    repository: Repository,
    run_id: str,
    start: str,
    message: str,
    trailers: Mapping[str, str],
    max_file: int = 1_000_000,
) -> str:
    """Keep the working tree at the end of a run as a child of the commit of its start, and return its id.

    Raises:
        Unavailable: Git cannot, the time is up, or the reference is not at ``start`` any more.
    """
    ref = reference(run_id)
    written = write_tree(repository, max_file)
    text = _message(message, {RUN: run_id, PHASE: "end", **trailers})
    commit = _commit(repository, written.tree, [start], text)
    repository.run("update-ref", "--no-deref", ref, commit, start)
    return commit


def _write(repository: Repository, look: WorkingTree, max_file: int, max_total: int) -> CommittedTree:
    choice = choose(repository, look.status, max_file, max_total, MAX_COUNT)
    _drop(repository, look, choice.dropped)
    _add(repository, look, choice.taken, choice)
    # Objects that a partial clone lacks are still the same objects.
    tree = repository.run("write-tree", "--missing-ok", env=look.index).decode().strip()
    return CommittedTree(tree, None, None, folded_skips(choice.skipped))


def _drop(repository: Repository, look: WorkingTree, paths: Sequence[bytes]) -> None:
    if paths:
        data = b"".join(path + b"\0" for path in paths)
        repository.run("update-index", "--force-remove", "-z", "--stdin", stdin=data, env=look.index)


def _add(repository: Repository, look: WorkingTree, paths: Sequence[bytes], choice: Choice) -> None:
    """Bring paths of the draft up to the working tree; those that git refuses are found by halving."""
    if not paths:
        return
    command = ("update-index", "--add", "--remove", "--replace", "-z", "--stdin")
    data = b"".join(path + b"\0" for path in paths)
    try:
        # The content itself, even where git-lfs would put it away under .git/lfs.
        repository.run(*command, stdin=data, env=look.index, settings=(*OFFLINE, *WITHOUT_LFS))
    except Unavailable as error:
        if error.reason != "failed":
            raise
        if len(paths) == 1:
            choice.skip(paths[0], f"git does not take it: {error.detail.partition(chr(10))[0]}")
            _drop(repository, look, paths)  # what the index has of it is not what ran
            return
        middle = len(paths) // 2
        _add(repository, look, paths[:middle], choice)
        _add(repository, look, paths[middle:], choice)


def _commit(repository: Repository, tree: str, parents: Sequence[str], message: str) -> str:
    options = [part for parent in parents for part in ("-p", parent)]
    data = message.encode("utf-8", "backslashreplace")
    return repository.run("commit-tree", tree, *options, "-F", "-", stdin=data, env=_NOBODY).decode().strip()


def _message(text: str, trailers: Mapping[str, str]) -> str:
    """A trailer is one line; git takes no NUL."""
    lines = [f"{re.sub('[^A-Za-z0-9-]', '-', name)}: {' '.join(value.split())}" for name, value in trailers.items()]
    head = text.replace("\0", " ").strip() or "A run"
    return f"{head}\n\n" + "\n".join(lines).replace("\0", " ") + "\n"


_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_PROGRAMS = ("smudge", "process", "clean", "required")


def export_tree(repository: Repository, tree: str, to: Path) -> None:
    """Write the files of ``tree`` below ``to``, which must not exist yet; no filter program of the user runs.

    Args:
        tree: Id of a tree, from a manifest that anybody may have written.

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
