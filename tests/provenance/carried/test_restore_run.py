"""What a checkpoint restores is what was there; what anybody may have written into one restores nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from code_projects import V1, V2, commit, write

from lightning_debugkit.provenance.carried.archive import RefusedArchive, pack
from lightning_debugkit.provenance.carried.manifest import Manifest
from lightning_debugkit.provenance.carried.restore_run import restore_run
from lightning_debugkit.provenance.repository.commit_tree import commit_tree
from lightning_debugkit.provenance.repository.git import open_repository


def entry(path: str, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    return {"path": path, "sha256": digest, "bytes": len(data), "kind": "module", "module": None}


def manifest_of(files: dict[str, bytes], root: Path, **further: Any) -> Manifest:
    source = {"root": str(root), "files": [entry(path, data) for path, data in files.items()]}
    return Manifest({"format": 1, "id": "run-1", "source": source, **further})


def snapshot(root: Path, run: str = "run-1") -> dict[str, Any]:
    with open_repository(root) as repository:
        kept = commit_tree(repository, run, "a run")
    return {"present": True, "tree": kept.tree, "commit": kept.commit, "ref": kept.ref}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    write(root, V1)
    commit(root, "v1")
    return root


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def as_bytes(files: dict[str, str]) -> dict[str, bytes]:
    return {name: text.encode() for name, text in files.items()}


def test_the_whole_tree_comes_from_the_repository_where_it_is_at_hand(project: Path, tmp_path: Path) -> None:
    tree = snapshot(project)
    write(project, V2)
    done = restore_run(manifest_of({}, project, tree=tree), None, tmp_path / "back")
    assert files_in(tmp_path / "back") == as_bytes(V1)
    assert (done.count, done.origin) == (len(V1), "the whole tree, from the repository")
    assert files_in(project).items() >= as_bytes(V2).items(), "the project stays as it is"


def test_captured_bytes_stand_above_what_git_makes_of_them(project: Path, tmp_path: Path) -> None:
    """With ``core.autocrlf=input`` git keeps other ends of lines than ran."""
    ran = {"shapes/late.py": b"x = 1\r\n"}
    done = restore_run(manifest_of(ran, project, tree=snapshot(project)), pack(ran), tmp_path / "back")
    assert (tmp_path / "back/shapes/late.py").read_bytes() == b"x = 1\r\n"
    assert (tmp_path / "back/README.md").read_text() == V1["README.md"]
    assert done.count == len(V1)


def test_no_filter_of_the_users_configuration_runs(project: Path, tmp_path: Path) -> None:
    (project / ".gitattributes").write_text("*.py filter=evil\n")
    tree = snapshot(project)
    marker = tmp_path / "ran"
    with (project / ".git/config").open("a") as config:
        config.write(
            f'[filter "evil"]\n\tsmudge = "touch {marker}; cat"\n\tprocess = "touch {marker}"\n\trequired = true\n'
        )
    restore_run(manifest_of({}, project, tree=tree), None, tmp_path / "back")
    assert not marker.exists()
    assert (tmp_path / "back/train.py").read_text() == V1["train.py"]


def test_without_repository_and_sources_it_says_where_to_go(tmp_path: Path) -> None:
    manifest = manifest_of({"a.py": b""}, tmp_path / "gone", tree={"present": True, "tree": "0" * 40, "ref": "refs/x"})
    with pytest.raises(ValueError, match=r"carries hashes only, and the repository with refs/x is not at hand"):
        restore_run(manifest, None, tmp_path / "back")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("held", ["a file", ""])
def test_nothing_is_written_where_something_is(tmp_path: Path, held: str) -> None:
    target = tmp_path / "back"
    if held:
        target.write_text(held)
    else:
        target.mkdir()
        (target / "mine.txt").write_text("mine")
    files = {"a.py": b"x = 1\n"}
    with pytest.raises(ValueError, match="needs a folder that is new or empty"):
        restore_run(manifest_of(files, tmp_path), pack(files), target)
    assert target.read_text() == held if held else (target / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("path", ["../up.py", "/abs.py", "a/../../up.py", "C:/x.py", "a\\..\\x.py", "con", "a/./b"])
def test_no_path_leads_outside(tmp_path: Path, path: str) -> None:
    files = {path: b"x = 1\n"}
    with pytest.raises((RefusedArchive, ValueError)):
        restore_run(manifest_of(files, tmp_path), pack(files), tmp_path / "in" / "back")
    assert [str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*") if each.is_file()] == []


def test_wrong_contents_are_refused_as_a_whole(tmp_path: Path) -> None:
    manifest = manifest_of({"a.py": b"x = 1\n", "b.py": b"y = 1\n"}, tmp_path)
    with pytest.raises(RefusedArchive, match=r"b\.py"):
        restore_run(manifest, pack({"a.py": b"x = 1\n", "b.py": b"y = 2\n"}), tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("tree", ["--output=/tmp/x", "HEAD", "0" * 40, "refs/heads/main", "f" * 12])
def test_a_tree_is_named_by_its_id_or_not_at_all(project: Path, tmp_path: Path, tree: str) -> None:
    manifest = manifest_of({"a.py": b""}, project, tree={"present": True, "tree": tree})
    done = restore_run(manifest, pack({"a.py": b""}), tmp_path / "back")
    assert done.origin == "the captured sources, from the checkpoint"
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["a.py"]


@pytest.mark.parametrize("leads_to", ["{outside}", "../outside", "../gone"])
@pytest.mark.parametrize("captured", ["linked/layers.py", "linked"])
def test_nothing_is_written_through_a_link_of_the_tree(project: Path, leads_to: str, captured: str) -> None:
    """A link to the live files of now, or to wherever a stranger's checkpoint finds one."""
    outside = project.parent / "outside"
    outside.mkdir()
    (outside / "layers.py").write_text("x = 'weeks of work'\n")
    (project / "linked").symlink_to(leads_to.format(outside=outside))
    tree = snapshot(project)
    done = restore_run(
        manifest_of({captured: b"x = 1\n"}, project, tree=tree), pack({captured: b"x = 1\n"}), project.parent / "back"
    )
    assert files_in(outside) == {"layers.py": b"x = 'weeks of work'\n"}
    assert (project.parent / "back" / captured).read_bytes() == b"x = 1\n"
    assert not (project.parent / "back" / "linked").is_symlink()
    assert not (project.parent / "gone").exists()
    assert done.remarks == ("linked was a link; the files that ran lie in its place",)
