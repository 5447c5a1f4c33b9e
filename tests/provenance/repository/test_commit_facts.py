"""What is told of a repository is what git would tell, and holds no credential."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from provenance.working_trees import commit, git, new, project, put, write

from lightning_debugkit.provenance.repository.commit_facts import bare_identity, identity
from lightning_debugkit.provenance.repository.git import open_repository

pytestmark = pytest.mark.usefixtures("own_home")


def told(folder: Path) -> dict[str, object]:
    with open_repository(folder, 60.0) as repository:
        found = identity(repository)
    assert json.loads(json.dumps(found)) == found, "plain types"
    return found


def changes(folder: Path) -> dict[str, str]:
    found = told(folder)["changed"]
    assert isinstance(found, list)
    return {each["path"]: each["status"] for each in found}


def test_a_clean_repository_is_its_commit(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    head = commit(folder)
    git(folder, "tag", "v1.0")
    found = told(folder)
    assert found.pop("git") == git(folder, "version").decode().strip().removeprefix("git version ")
    assert found == {
        "commit": head,
        "branch": "main",
        "describe": "v1.0",
        "dirty": False,
        "changed": [],
        "changed_count": 0,
        "submodules": [],
        "remote": None,
        "upstream": None,
        "state": [],
    }


def test_before_the_first_commit_there_is_none(tmp_path: Path) -> None:
    folder = new(tmp_path / "project")
    write(folder, train="1\n")
    found = told(folder)
    assert (found["commit"], found["branch"], found["describe"]) == (None, "main", None)
    assert found["dirty"] is True


def test_a_detached_head_has_no_branch(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    git(folder, "checkout", "-q", "--detach")
    assert told(folder)["branch"] is None


def test_every_change_has_its_word(tmp_path: Path) -> None:
    folder = new(tmp_path / "project")
    for name in ("kept", "modified", "staged", "twice", "deleted", "unstaged", "linked", "hidden"):
        put(folder, name, name.encode())
    commit(folder)
    for name in ("modified", "staged", "twice", "hidden"):
        put(folder, name, b"other")
    git(folder, "update-index", "--assume-unchanged", "hidden")
    git(folder, "add", "staged", "twice")
    put(folder, "twice", b"again")
    (folder / "deleted").unlink()
    git(folder, "rm", "-q", "unstaged")
    (folder / "linked").unlink()
    (folder / "linked").symlink_to("kept")
    put(folder, "added", b"1")
    put(folder, "intended", b"1")
    git(folder, "add", "added")
    git(folder, "add", "-N", "intended")
    put(folder, "new/untracked", b"1")
    assert changes(folder) == {
        "modified": "modified",
        "staged": "modified",
        "twice": "modified",
        "hidden": "modified",
        "deleted": "deleted",
        "unstaged": "deleted",
        "linked": "retyped",
        "added": "added",
        "intended": "added",
        "new/untracked": "untracked",
    }


def test_a_conflict_is_told(tmp_path: Path) -> None:
    folder = new(tmp_path / "project")
    for branch, text in (("main", "1"), ("side", "2")):
        git(folder, "checkout", "-q", "--orphan", branch)
        write(folder, a=text)
        commit(folder)
    with pytest.raises(AssertionError):
        git(folder, "merge", "--allow-unrelated-histories", "main")
    assert changes(folder) == {"a.py": "unmerged"}
    assert told(folder)["state"] == ["merging"]


def test_many_changes_are_counted_and_a_hundred_are_named(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    commit(folder)
    for n in range(150):
        put(folder, f"{n}.txt", b"")
    found = told(folder)
    assert found["changed_count"] == 150
    assert len(changes(folder)) == 100


def test_names_that_are_no_text_are_spelt_out(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    commit(folder)
    put(folder, b"caf\xe9.py".decode(errors="surrogateescape"), b"")
    assert changes(folder) == {"caf\\xe9.py": "untracked"}
    json.dumps(told(folder), ensure_ascii=False).encode()


def test_the_remote_is_told_without_credentials(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    git(folder, "remote", "add", "fork", "ssh://me@example.org/fork.git")
    assert told(folder)["remote"] == "ssh://example.org/fork.git"
    git(folder, "remote", "add", "origin", "https://me:hunter2@example.org/model.git?token=hunter3")
    assert told(folder)["remote"] == "https://example.org/model.git"
    git(folder, "config", "branch.main.remote", "fork")
    assert told(folder)["remote"] == "ssh://example.org/fork.git"
    assert "hunter" not in json.dumps(told(folder))


def test_the_upstream_says_how_far_apart_the_branches_are(tmp_path: Path) -> None:
    origin = project(tmp_path / "origin")
    git(tmp_path, "clone", "-q", str(origin), str(tmp_path / "project"))
    for n in range(2):
        write(origin, there=f"{n}\n")
        commit(origin)
    for n in range(3):
        write(tmp_path / "project", here=f"{n}\n")
        commit(tmp_path / "project")
    git(tmp_path / "project", "fetch", "-q")
    assert told(tmp_path / "project")["upstream"] == {"name": "origin/main", "ahead": 3, "behind": 2}
    git(tmp_path / "project", "update-ref", "-d", "refs/remotes/origin/main")
    assert told(tmp_path / "project")["upstream"] == {"name": "origin/main", "ahead": None, "behind": None}


def test_a_submodule_is_dirty_by_what_it_holds(tmp_path: Path) -> None:
    origin = new(tmp_path / "library")
    write(origin, layer="1\n")
    head = commit(origin)
    folder = project(tmp_path / "project")
    git(folder, "submodule", "add", "-q", str(origin), "library")
    commit(folder)
    assert told(folder)["submodules"] == [{"path": "library", "commit": head, "dirty": False}]
    write(folder / "library", new="2\n")
    assert told(folder)["submodules"] == [{"path": "library", "commit": head, "dirty": True}]
    assert changes(folder) == {"library": "modified"}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("where", ["branch", "detached", "worktree", "submodule", "unborn"])
def test_commit_and_branch_are_known_without_git(tmp_path: Path, where: str, packed: bool) -> None:
    """What git says is the second road."""
    folder = new(tmp_path / "project") if where == "unborn" else project(tmp_path / "project")
    if where == "detached":
        git(folder, "checkout", "-q", "--detach")
    if where == "worktree":
        git(folder, "worktree", "add", "-q", "-b", "side/branch", str(tmp_path / "other"))
        folder = tmp_path / "other"
    if where == "submodule":
        git(folder, "submodule", "add", "-q", str(project(tmp_path / "library")), "library")
        folder = folder / "library"
    if packed:
        git(folder, "pack-refs", "--all")
    known = told(folder)
    (folder / "deeper").mkdir()
    assert bare_identity(folder / "deeper") == {"commit": known["commit"], "branch": known["branch"]}


def test_without_git_nothing_is_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bare_identity(tmp_path) is None
    put(tmp_path / "odd", ".git/HEAD", b"junk")
    assert bare_identity(tmp_path / "odd") is None
    put(tmp_path / "escape", ".git/HEAD", b"ref: refs/heads/../../../secret")
    put(tmp_path, "secret", b"1" * 40)
    assert bare_identity(tmp_path / "escape") == {"commit": None, "branch": "../../../secret"}
    project(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "work").mkdir()
    assert bare_identity(tmp_path / "work") is None, "the repository of the home folder is not the project's"
