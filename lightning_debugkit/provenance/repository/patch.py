"""What lies between two trees: the paths, and a patch that ``git apply`` takes, whatever the user's settings are."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lightning_debugkit.provenance.repository.git import Repository
from lightning_debugkit.provenance.repository.status import shown_path

_RAW = re.compile(rb":(\d+) (\d+) ([0-9a-f]+) ([0-9a-f]+) ([A-Z])\d*\0([^\0]+)\0")
_OPTIONS = (
    *("--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "--no-relative", "--no-indent-heuristic"),
    *("--binary", "--full-index", "--src-prefix=a/", "--dst-prefix=b/", "--submodule=short", "--unified=3"),
    *("--inter-hunk-context=0", "--diff-algorithm=myers", "--ignore-submodules=none", "-O/dev/null"),
)
_SETTINGS = ("diff.suppressBlankEmpty=false", "protocol.allow=never")
_AT_ONCE = 200  # paths of one command line
_TIMES = 20
_SUBMODULE = b"160000"


@dataclass(frozen=True)
class _Change:
    path: bytes
    status: str
    ids: tuple[bytes, ...]


def patch(repository: Repository, a: str | None, b: str, limit: int = 1_000_000) -> bytes:
    """Return what turns ``a`` into ``b``, as a patch of whole files and at most ``limit`` bytes.

    Files that make it longer are left out, and lines at its head, which ``git apply`` passes over, name them.
    """
    first = _tree(repository, a)
    changes = _changes(repository, a, b)
    sizes = _sizes(repository, changes)
    # A little difference of a large file is worth its time, one of a huge file is not.
    small = [each for each in changes if sum(sizes[name] for name in each.ids) <= _TIMES * limit]
    kept: list[bytes] = []
    told: set[bytes] = set()
    room = limit
    waiting = [small[start : start + _AT_ONCE] for start in range(0, len(small), _AT_ONCE)][::-1]
    while waiting:
        group = waiting.pop()
        arguments = [each.path.decode("utf-8", "surrogateescape") for each in group]
        part = repository.run("diff", *_OPTIONS, first, b, "--", *arguments, settings=_SETTINGS)
        if len(part) <= room:
            kept.append(part)
            told.update(each.path for each in group)
            room -= len(part)
        elif len(group) > 1:
            middle = len(group) // 2
            waiting += [group[middle:], group[:middle]]
    left_out = [shown_path(each.path).encode() for each in changes if each.path not in told]
    return b"".join(b"# left out, too large: " + path.replace(b"\n", b"\\n") + b"\n" for path in left_out) + b"".join(
        kept
    )


def _tree(repository: Repository, name: str | None) -> str:
    """Git knows the tree without files though no repository holds it; its name depends on the kind of hash."""
    return name or repository.run("hash-object", "-t", "tree", "--stdin").decode().strip()


def _changes(repository: Repository, a: str | None, b: str) -> list[_Change]:
    options = ("-r", "-z", "--raw", "--no-abbrev", "--no-renames", "--no-relative", "--ignore-submodules=none")
    found = _RAW.findall(repository.run("diff-tree", *options, _tree(repository, a), b, "--"))
    changes = []
    for mode_a, mode_b, id_a, id_b, status, path in found:
        ids = tuple(i for mode, i in ((mode_a, id_a), (mode_b, id_b)) if mode != _SUBMODULE and i.strip(b"0"))
        changes.append(_Change(path, status.decode(), ids))
    return changes


def _sizes(repository: Repository, changes: Sequence[_Change]) -> dict[bytes, float]:
    names = [name for each in changes for name in each.ids]
    asked = b"\n".join(names) + b"\n"
    lines = repository.run("cat-file", "--batch-check=%(objectsize)", stdin=asked).split(b"\n") if names else []
    # "<id> missing": a partial clone lacks it, and it is not fetched.
    return {name: int(line) if line.isdigit() else math.inf for name, line in zip(names, lines, strict=False)}
