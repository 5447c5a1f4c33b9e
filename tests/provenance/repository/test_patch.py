"""A patch turns one tree into another, whatever the user's settings are; its limit never breaks it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from provenance.working_trees import commit, git, new, project, put, script, tree_of, write

from lightning_debugkit.provenance.repository.commit_tree import write_tree
from lightning_debugkit.provenance.repository.git import open_repository
from lightning_debugkit.provenance.repository.patch import _changes, patch
from lightning_debugkit.provenance.repository.status import shown_path

pytestmark = [
    pytest.mark.usefixtures("own_home"),
    pytest.mark.skipif(os.name == "nt", reason="links and modes of POSIX"),
]


def two_trees(folder: Path) -> tuple[str, str]:
    """Every kind of change: binary, odd names, modes, links, no line feed at the end, line ends, empty files."""
    new(folder)
    for name, data in {
        "text.py": b"a = 1\n" * 50,
        "binary.bin": bytes(range(256)) * 20,
        "gone.py": b"gone\n",
        "mode.sh": b"echo\n",
        "linked.py": b"was a file\n",
        "dos.txt": b"1\r\n2\r\n",
        "no-end.txt": b"1",
        "moved.py": b"moved = 1\n" * 30,
        "with space.py": b"1\n",
    }.items():
        put(folder, name, data)
    before = commit(folder)
    put(folder, "text.py", b"a = 1\n" * 25 + b"b = 2\n\n" + b"a = 1\n" * 25)
    put(folder, "binary.bin", bytes(range(255, -1, -1)) * 20)
    (folder / "gone.py").unlink()
    (folder / "mode.sh").chmod(0o755)
    (folder / "linked.py").unlink()
    (folder / "linked.py").symlink_to("text.py")
    put(folder, "dos.txt", b"1\r\n3\n")
    put(folder, "no-end.txt", b"2")
    (folder / "moved.py").rename(folder / "elsewhere.py")
    put(folder, "with space.py", b"2\n")
    put(folder, "empty.py", b"")
    put(folder, "line\nfeed", b"1\n")
    put(folder, os.fsdecode(b"latin-\xe9"), b"1\n")
    put(folder, ":(top)*", b"1\n")
    with open_repository(folder, 60.0) as repository:
        return before, write_tree(repository).tree


SETTINGS = {
    "diff.external": "{}",
    "diff.noprefix": "true",
    "diff.mnemonicPrefix": "true",
    "color.ui": "always",
    "diff.renames": "copies",
    "diff.submodule": "log",
    "diff.context": "0",
    "diff.orderFile": "/no/such",
    "diff.relative": "true",
    "diff.wordRegex": ".",
    "diff.suppressBlankEmpty": "true",
    "diff.colorMoved": "zebra",
    "diff.text.textconv": "{}",
    "core.pager": "{}",
}


@pytest.mark.parametrize("setting", ["", *SETTINGS])
def test_a_patch_applies_whatever_the_settings(tmp_path: Path, setting: str) -> None:
    """The second road: apply it to the first tree, and what comes out is the second."""
    folder = tmp_path / "project"
    before, after = two_trees(folder)
    with open_repository(folder, 60.0) as repository:
        plain = patch(repository, before, after)
    if setting:
        put(folder, ".git/info/attributes", b"*.py diff=text\n")
        git(folder, "config", setting, SETTINGS[setting].format(script(tmp_path / "tattler", "echo EXTERNAL")))
    with open_repository(folder / ".", 60.0) as repository:
        found = patch(repository, before, after)
    assert found == plain
    assert applied(folder, before, found) == after


def applied(folder: Path, before: str, data: bytes) -> str:
    """Apply to an index of its own."""
    place = folder.parent / "applied"
    git(folder, "worktree", "add", "-q", "--detach", str(place), before)
    git(
        place,
        "-c",
        "core.autocrlf=false",
        "-c",
        "color.ui=false",
        "apply",
        "--index",
        "--whitespace=nowarn",
        "-",
        stdin=data,
    )
    return git(place, "write-tree").decode().strip()


def test_each_change_is_named(tmp_path: Path) -> None:
    before, after = two_trees(tmp_path / "project")
    with open_repository(tmp_path / "project", 60.0) as repository:
        assert {shown_path(each.path): each.status for each in _changes(repository, before, after)} == {
            "text.py": "M",
            "binary.bin": "M",
            "gone.py": "D",
            "mode.sh": "M",
            "linked.py": "T",
            "dos.txt": "M",
            "no-end.txt": "M",
            "moved.py": "D",
            "elsewhere.py": "A",
            "with space.py": "M",
            "empty.py": "A",
            "line\nfeed": "A",
            "latin-\\xe9": "A",
            ":(top)*": "A",
        }
        assert _changes(repository, after, after) == []
        assert patch(repository, after, after) == b""


def test_from_no_tree_all_is_added(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    with open_repository(folder, 60.0) as repository:
        tree = write_tree(repository).tree
        assert {each.path for each in _changes(repository, None, tree)} == set(tree_of(folder, tree))
        assert {each.status for each in _changes(repository, None, tree)} == {"A"}
        empty = git(folder, "hash-object", "-t", "tree", "-w", "--stdin").decode().strip()
        assert patch(repository, None, tree) == patch(repository, empty, tree)


def test_beyond_the_limit_whole_files_are_left_out_and_named(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    with open_repository(folder, 60.0) as repository:
        before = write_tree(repository).tree
        put(folder, "large.py", b"".join(b"value = %d\n" % n for n in range(2000)))
        put(folder, "z.py", b"small = 1\n")
        after = write_tree(repository).tree
        whole = patch(repository, before, after)
        cut = patch(repository, before, after, limit=1000)
    assert len(whole) > 20_000
    assert cut.startswith(b"# left out, too large: large.py\ndiff --git a/z.py b/z.py\n")
    place = applied(folder, git(folder, "commit-tree", before, stdin=b"x").decode().strip(), cut)
    assert set(tree_of(folder, place)) == set(tree_of(folder, after)) - {b"large.py"}


def test_a_small_change_of_a_large_file_is_told(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    lines = [b"value = %d\n" % n for n in range(2000)]
    put(folder, "large.py", b"".join(lines))
    before = commit(folder)
    put(folder, "large.py", b"".join([*lines[:1000], b"changed\n", *lines[1000:]]))
    with open_repository(folder, 60.0) as repository:
        found = patch(repository, before, write_tree(repository).tree, limit=5000)
    assert b"+changed\n" in found
    assert b"left out" not in found


def test_a_huge_file_is_not_looked_into(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    put(folder, "data.bin", os.urandom(3_000_000))
    before = commit(folder)
    (folder / "data.bin").unlink()
    with open_repository(folder, 60.0) as repository:
        found = patch(repository, before, write_tree(repository).tree, limit=100_000)
    assert found == b"# left out, too large: data.bin\n"


def test_many_files_make_one_patch(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    before = commit(folder)
    for n in range(450):
        put(folder, f"many/{n}.py", b"1\n")
    with open_repository(folder, 60.0) as repository:
        after = write_tree(repository).tree
        found = patch(repository, before, after)
    assert found.count(b"diff --git") == 450
    assert applied(folder, before, found) == after


def test_a_submodule_that_moved_is_one_line_each_way(tmp_path: Path) -> None:
    library = new(tmp_path / "library")
    write(library, layer="1\n")
    commit(library)
    folder = project(tmp_path / "project")
    git(folder, "submodule", "add", "-q", str(library), "library")
    before = commit(folder)
    write(folder / "library", layer="2\n")
    commit(folder / "library")
    with open_repository(folder, 60.0) as repository:
        found = patch(repository, before, write_tree(repository).tree)
    assert found.count(b"Subproject commit") == 2
