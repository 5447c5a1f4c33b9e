"""Which of the files that differ from the commit are kept: small ones, no secrets, no more than is good for a disk."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from lightning_debugkit.core.secrets import secret_name, secret_text
from lightning_debugkit.provenance.repository.git import Repository, Unavailable
from lightning_debugkit.provenance.repository.status import Entry, Status, shown_path

_CODE = frozenset((".py", ".ipynb", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".json", ".sh", ".cu", ".cpp"))
_DEPTH = 8  # of repositories in repositories
_FOLD = 10  # files of one folder with one reason are told one by one up to here
_TOLD = 200


@dataclass(frozen=True)
class Skipped:
    """What was left out."""

    path: str  # a file, or a folder, which ends in a slash
    reason: str
    bytes: int


@dataclass
class Choice:
    """What of the differences goes into the tree."""

    # paths whose state in the working tree is kept; one that is gone there goes
    taken: list[bytes] = field(default_factory=list)
    dropped: list[bytes] = field(default_factory=list)  # paths that the index has, and that are gone or left out
    skipped: list[Skipped] = field(default_factory=list)  # what is told of those that are left out

    def skip(self, path: bytes, reason: str, size: int = 0) -> None:
        self.skipped.append(Skipped(shown_path(path), reason, size))


@dataclass(frozen=True)
class _Candidate:
    path: bytes
    in_index: bool
    size: int
    is_link: bool = False

    @property
    def order(self) -> tuple[bool, bool, int, bytes]:
        """What git tracks comes first, then code, then what is small."""
        suffix = PurePosixPath(shown_path(self.path)).suffix.lower()
        return (not self.in_index, suffix not in _CODE, self.size, self.path)


def choose(repository: Repository, status: Status, max_file: int, max_total: int, max_count: int) -> Choice:
    """Decide about every path that differs; unchanged files are not looked at.

    Args:
        max_file: Bytes of the largest file that is kept.
        max_total: Bytes of all that is kept.
        max_count: How many files are kept.
    """
    choice = Choice()
    root = os.fsencode(repository.root) + b"/"
    candidates = []
    for path, in_index in _differing(repository, status, choice):
        try:
            found = os.lstat(root + path)
        except OSError:
            choice.taken.append(path)  # it is gone
            continue
        if stat.S_ISDIR(found.st_mode):  # a submodule at another commit, or a folder where a file was
            choice.taken.append(path)
        elif stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode):
            candidates.append(_Candidate(path, in_index, found.st_size, stat.S_ISLNK(found.st_mode)))
        else:
            _leave(choice, _Candidate(path, in_index, 0), "not a regular file")
    total = count = 0
    for candidate in sorted(candidates, key=lambda each: each.order):
        reason = f"too large: {candidate.size:,} bytes" if candidate.size > max_file else None
        if reason is None and (total + candidate.size > max_total or count >= max_count):
            reason = f"more than {max_total:,} bytes or {max_count:,} files in all"
        reason = reason or _secret(root, candidate)
        if reason is not None:
            _leave(choice, candidate, reason)
            continue
        if repository.seconds_left <= 0:
            raise Unavailable("timeout", detail="too many files differ from the commit")
        total, count = total + candidate.size, count + 1
        choice.taken.append(candidate.path)
    return choice


def _leave(choice: Choice, candidate: _Candidate, reason: str) -> None:
    choice.skip(candidate.path, reason, candidate.size)
    if candidate.in_index:
        choice.dropped.append(candidate.path)


def _secret(root: bytes, candidate: _Candidate) -> str | None:
    if candidate.is_link:  # only where it leads is kept
        return None
    if reason := secret_name(shown_path(candidate.path)):
        return reason
    try:
        return secret_text(Path(os.fsdecode(root + candidate.path)).read_bytes())
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _differing(repository: Repository, status: Status, choice: Choice) -> Iterable[tuple[bytes, bool]]:
    """Yield each path and whether the index has it; for a repository within, the paths of its files."""
    for entry in status.entries:
        if entry.worktree == "D":
            choice.dropped.append(entry.path)  # also where a link leads to another file of that name
        elif entry.is_dirty_submodule or entry.path.endswith(b"/"):
            for path in _within(repository, entry, choice):
                yield path, False
        else:
            yield entry.path, entry.worktree != "?"


def _within(repository: Repository, entry: Entry, choice: Choice) -> Iterable[bytes]:
    """Files of a repository in the working tree: its commits are nowhere else, so its files are kept themselves."""
    waiting = [(entry.path.rstrip(b"/"), 0)]
    while waiting:
        place, depth = waiting.pop()
        folder = repository.root / os.fsdecode(place)
        listing = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
        try:
            names = set(repository.run(*listing, folder=folder).split(b"\0")) - {b""}
        except Unavailable as error:
            if error.reason == "timeout":
                raise
            choice.skip(place + b"/", f"a repository of its own, which git does not read: {error.reason}")
            continue
        for name in sorted(names):
            path = place + b"/" + name.rstrip(b"/")
            full = repository.root / os.fsdecode(path)
            if not full.is_dir() or full.is_symlink():
                yield path
            elif depth < _DEPTH:
                waiting.append((path, depth + 1))
            else:
                choice.skip(path + b"/", "a repository within too many repositories")


def folded_skips(skipped: Iterable[Skipped]) -> tuple[Skipped, ...]:
    """Tell many files of one folder as one; no list grows with a data set."""
    all_of_them = list(skipped)
    found = _by_folder(all_of_them, lambda path: str(PurePosixPath(path).parent), _FOLD)
    if len(found) > _TOLD:
        found = _by_folder(all_of_them, lambda path: PurePosixPath(path).parts[0], 1)
    if len(found) > _TOLD:
        rest = found[_TOLD:]
        found = [*found[:_TOLD], Skipped("./", f"{len(rest):,} more", sum(each.bytes for each in rest))]
    return tuple(found)


def _by_folder(skipped: list[Skipped], folder_of: Callable[[str], str], most: int) -> list[Skipped]:
    groups: dict[tuple[str, str], list[Skipped]] = defaultdict(list)
    for each in skipped:
        groups[folder_of(each.path), each.reason.partition(":")[0]].append(each)
    found = []
    for (folder, reason), group in groups.items():
        if len(group) <= most:
            found += group
        else:
            found.append(Skipped(f"{folder}/", f"{len(group):,} files, {reason}", sum(each.bytes for each in group)))
    return found
