"""In every state of a repository and under every user's settings: the tree is right, and nothing was touched."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from provenance.repository.states import (
    KINDS,
    linked_worktree,
)
from provenance.working_trees import (
    files_in,
    fingerprint,
    git,
    objects,
    tree_of,
)

from lightning_debugkit.provenance.repository.commit_facts import identity
from lightning_debugkit.provenance.repository.commit_tree import CommittedTree, commit_tree, end_run
from lightning_debugkit.provenance.repository.git import Repository, Unavailable, open_repository

pytestmark = [
    pytest.mark.usefixtures("own_home"),
    pytest.mark.skipif(os.name == "nt", reason="links, modes and shell scripts of POSIX"),
]


def snapshot(start: Path) -> tuple[dict[str, object], CommittedTree, str]:
    repository: Repository
    with open_repository(start, 60.0) as repository:
        said = identity(repository)
        kept = commit_tree(repository, "run-1", "first line", trailers={"Note": "why"})
        assert kept.commit is not None
        end = end_run(repository, "run-1", kept.commit, "done", {"Outcome": "finished"})
    return said, kept, end


@pytest.mark.parametrize("name", KINDS)
def test_the_tree_is_the_working_tree_and_nothing_was_touched(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = KINDS[name]
    monkeypatch.setenv("HOME", os.environ["HOME"])  # one kind moves it
    folder = tmp_path / "project"
    folder.mkdir() if kind.make is not linked_worktree and "clone" not in kind.make.__qualname__ else None
    start = kind.make(folder) or folder
    (tmp_path / "ran").unlink(missing_ok=True)  # making it ran the hooks
    for variable, value in kind.environment.items():
        monkeypatch.setenv(variable, value.format(folder))
    before, stored, content = fingerprint(tmp_path), objects(tmp_path), files_in(folder)
    if kind.unavailable:
        with pytest.raises(Unavailable) as raised:
            snapshot(start)
        assert raised.value.reason == kind.unavailable
        assert raised.value.advice
    else:
        said, kept, end = snapshot(start)
    assert fingerprint(tmp_path) == before
    assert not (tmp_path / "ran").exists(), "a program of the user's was run"
    added = {path for path, data in objects(tmp_path).items() if stored.get(path) != data}
    assert [path for path in added if not re.search(r"/objects/[0-9a-f]{2}/[0-9a-f]{38,62}$", path)] == []
    if kind.unavailable:
        return
    tree = tree_of(folder, kept.tree)
    submodules = {path for path in tree if (folder / os.fsdecode(path)).is_dir() and not content.get(path)}
    expected = {**content, **kind.differs}
    assert {p: d for p, d in tree.items() if p not in submodules} == {
        p: d for p, d in expected.items() if d is not None
    }
    assert {each.path for each in kept.skipped} == set(kind.skipped)
    assert all(kind.skipped[each.path] in each.reason for each in kept.skipped)
    assert said["state"] == list(kind.state)
    head = git(folder, "for-each-ref", "--format=%(objectname)", "refs/heads").split()
    assert said["commit"] is None or said["commit"].encode() in [git(folder, "rev-parse", "HEAD").strip(), *head]
    raw = git(folder, "cat-file", "commit", kept.ref or "").decode()
    assert f"parent {kept.commit}" in raw
    assert "gpgsig" not in raw
    assert git(folder, "rev-parse", f"{end}^{{tree}}").decode().strip() == kept.tree
    git(folder, "fsck", "--connectivity-only", *([] if "partial" in kind.state else ["--strict"]))
    assert list((tmp_path / "drafts").iterdir()) == []
