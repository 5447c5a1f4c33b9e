"""What differs from the commit in a working tree: one look, from which both its description and its tree are made."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property

from lightning_debugkit.provenance.repository.draft_index import draft_index
from lightning_debugkit.provenance.repository.git import Repository

_WORDS = {"M": "modified", "A": "added", "D": "deleted", "T": "retyped", "?": "untracked", "u": "unmerged"}
# What a run writes by Lightning's names is no change of the code; the kit's own folders ignore themselves.
_OUTPUT = re.compile(rb"(?:^|/)lightning_logs/|\.ckpt$")
_SUBMODULE = re.compile(rb"(?:^|\0). 160000 ([0-9a-f]+) \d\t([^\0]+)")


def shown_path(path: bytes) -> str:
    """Return a path as text that any file can hold; bytes that are no UTF-8 are spelt out."""
    return path.decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Entry:
    """One path that differs."""

    path: bytes  # below the root, with slashes; folders that are repositories of their own end in one
    index: str  # how the index differs from the commit: a letter of `git status`, `.` if it does not
    worktree: str  # how the working tree differs from the index; `?` if git does not track it
    submodule: str = "N..."  # `S` and, of a submodule: `C` commit, `M` tracked files, `U` untracked files differ

    @property
    def status(self) -> str:
        """A word for it, by what the working tree holds against the commit."""
        if self.worktree == "D":
            return _WORDS["D"]
        if "A" in (self.index, self.worktree):
            return _WORDS["A"]
        return _WORDS.get(self.worktree if self.worktree != "." else self.index, _WORDS["M"])

    @property
    def is_dirty_submodule(self) -> bool:
        """Whether it holds what no commit of its own has."""
        return self.submodule[:1] == "S" and self.submodule[2:] != ".."


@dataclass(frozen=True)
class Status:
    """A look at a working tree."""

    commit: str | None  # its commit, `None` before the first
    branch: str | None  # its branch, `None` if the head is detached
    upstream: str | None  # the branch that this one follows
    ahead: int | None  # commits that the upstream lacks, `None` if it is not known
    behind: int | None  # commits that only the upstream has
    entries: tuple[Entry, ...]  # all that differs

    @cached_property
    def tracked(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.worktree != "?")


@dataclass(frozen=True)
class WorkingTree:
    """What was seen, and the draft of the index by which it was seen."""

    index: dict[str, str]  # the variable by which git takes the draft for its index
    status: Status


def look(repository: Repository) -> WorkingTree:
    """Compare commit, index and working tree; the draft stays for as long as the repository is open."""
    index = repository.closing.enter_context(draft_index(repository))
    repository.last_look = WorkingTree(index, _status(repository, index))
    return repository.last_look


def last_working_tree(repository: Repository) -> WorkingTree:
    """Return the look that was just taken, for one use: what is told and what is kept are of one moment."""
    taken, repository.last_look = repository.last_look, None
    if isinstance(taken, WorkingTree):
        return taken
    found = look(repository)
    repository.last_look = None
    return found


def _status(repository: Repository, index: dict[str, str]) -> Status:
    options = ("--porcelain=v2", "--branch", "-z", "--untracked-files=all", "--ignore-submodules=none", "--no-renames")
    lines = iter(repository.run("status", *options, env=index).split(b"\0"))
    head: dict[str, str] = {}
    entries = []
    for line in lines:
        kind, _, rest = line.partition(b" ")
        if kind == b"#":
            name, _, value = os.fsdecode(rest).partition(" ")
            head[name] = value
        elif kind == b"?" and not _OUTPUT.search(rest):
            entries.append(Entry(rest, ".", "?"))
        elif kind == b"1":
            codes, submodule, *_, path = rest.split(b" ", 7)
            entries.append(Entry(path, chr(codes[0]), chr(codes[1]), submodule.decode()))
        elif kind == b"u":
            entries.append(Entry(rest.split(b" ", 9)[-1], "u", "u", rest.split(b" ", 2)[1].decode()))
    commit, branch = head.get("branch.oid"), head.get("branch.head")
    counts = head.get("branch.ab", "").split()
    return Status(
        commit=None if commit == "(initial)" else commit,
        branch=None if branch == "(detached)" else branch,
        upstream=head.get("branch.upstream"),
        ahead=int(counts[0]) if counts else None,
        behind=-int(counts[1]) if counts else None,
        entries=tuple(entries),
    )


def submodules(repository: Repository) -> dict[bytes, str]:
    """Return the commit that the index has of every submodule."""
    return {path: commit.decode() for commit, path in _SUBMODULE.findall(repository.table)}
