"""Side references are listed, pruned and pushed; no other reference ever is."""

from __future__ import annotations

from pathlib import Path

import pytest
from provenance.working_trees import git, new, project, write

from lightning_debugkit.provenance.repository.commit_tree import commit_tree, end_run
from lightning_debugkit.provenance.repository.git import Repository, Unavailable, open_repository
from lightning_debugkit.provenance.repository.side_refs import listed_runs, prune, push

pytestmark = pytest.mark.usefixtures("own_home")
DAY = 24 * 3600


def run(repository: Repository, name: str, ends: bool = True) -> None:
    start = commit_tree(repository, name, f"why {name}", trailers={"Debugkit-Label": name, "Debugkit-Step": "0"})
    if ends:
        write(repository.root, pkg__model=f"name = '{name}'\n")
        end_run(repository, name, start.commit or "", "done", {"Debugkit-Step": "8", "Debugkit-Best": "loss 0.1"})


def age(folder: Path, name: str, days: float) -> None:
    """Let a run have begun so long ago."""
    import time

    when = f"{int(time.time() - days * DAY)} +0000"
    raw = git(folder, "cat-file", "commit", f"refs/debugkit/runs/{name}").decode()
    old = "\n".join(
        f"{line.rsplit(' ', 2)[0]} {when}" if line.startswith(("author", "committer")) else line
        for line in raw.split("\n")
    )
    made = git(folder, "hash-object", "-t", "commit", "-w", "--stdin", stdin=old.encode()).decode().strip()
    git(folder, "update-ref", f"refs/debugkit/runs/{name}", made)


def test_a_run_is_told_from_its_two_commits(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    with open_repository(folder, 60.0) as repository:
        run(repository, "finished")
        run(repository, "killed", ends=False)
        found = {each.id: each for each in listed_runs(repository)}
    head = git(folder, "rev-parse", "HEAD").decode().strip()
    finished, killed = found["finished"], found["killed"]
    assert finished.end == git(folder, "rev-parse", "refs/debugkit/runs/finished").decode().strip()
    assert finished.start == git(folder, "rev-parse", "refs/debugkit/runs/finished^").decode().strip()
    assert finished.base == killed.base == head
    assert (finished.subject, killed.subject) == ("why finished", "why killed")
    assert finished.trailers == {
        "Debugkit-Run": "finished",
        "Debugkit-Phase": "end",
        "Debugkit-Label": "finished",
        "Debugkit-Step": "8",
        "Debugkit-Best": "loss 0.1",
    }
    assert (killed.end, killed.ended, killed.trailers["Debugkit-Step"]) == (None, None, "0")


def test_runs_are_listed_from_the_oldest_on(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    with open_repository(folder, 60.0) as repository:
        for name, days in (("b", 3.0), ("a", 1.0), ("c", 2.0)):
            run(repository, name, ends=False)
            age(folder, name, days)
        assert [each.id for each in listed_runs(repository)] == ["b", "c", "a"]


def test_a_repository_without_runs_has_an_empty_list(tmp_path: Path) -> None:
    with open_repository(project(tmp_path / "project")) as repository:
        assert listed_runs(repository) == []
        assert prune(repository, keep=0) == []
        assert push(repository, "origin") == []


def test_what_others_put_there_is_passed_over(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    git(folder, "update-ref", "refs/debugkit/runs/foreign", "HEAD")
    git(folder, "update-ref", "refs/debugkit/runs/tree", "HEAD^{tree}")
    with open_repository(folder) as repository:
        (found,) = listed_runs(repository)
    assert (found.id, found.end, dict(found.trailers)) == ("foreign", None, {})


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        ({"keep": 2}, ["9d", "8d"]),
        ({"keep": 9}, []),
        ({"keep": 0}, ["9d", "8d", "2d", "0d"]),
        ({"older_than_days": 5}, ["9d", "8d"]),
        ({"older_than_days": 5, "keep": 3}, ["9d"]),
        ({"older_than_days": 8.5, "keep": 1}, ["9d"]),
    ],
)
def test_a_run_is_pruned_only_if_no_limit_spares_it(tmp_path: Path, options: dict[str, float], gone: list[str]) -> None:
    folder = project(tmp_path / "project")
    with open_repository(folder, 60.0) as repository:
        for days in (8, 0, 9, 2):
            run(repository, f"{days}d", ends=False)
            age(folder, f"{days}d", days)
        heads = git(folder, "show-ref", "--heads")
        assert prune(repository, dry=True, **options) == gone
        assert len(listed_runs(repository)) == 4
        assert prune(repository, **options) == gone
        assert [each.id for each in listed_runs(repository)] == [
            name for name in ("9d", "8d", "2d", "0d") if name not in gone
        ]
    assert git(folder, "show-ref", "--heads") == heads


def test_pruning_needs_a_limit(tmp_path: Path) -> None:
    with (
        open_repository(project(tmp_path / "project")) as repository,
        pytest.raises(
            ValueError, match=r"^prune needs keep or older_than_days, got neither; keep=50 is a good start\.$"
        ),
    ):
        prune(repository)


def test_only_side_references_are_pushed(tmp_path: Path) -> None:
    """Whatever the user's settings would send along."""
    folder = project(tmp_path / "project")
    remote = new(tmp_path / "remote", "--bare")
    git(folder, "remote", "add", "--mirror=push", "origin", str(remote))
    git(folder, "tag", "-a", "-m", "tag", "v1")
    git(folder, "config", "push.followTags", "true")
    git(folder, "config", "push.default", "matching")
    (folder / ".git" / "hooks" / "pre-push").write_text("#!/bin/sh\nexit 1\n")
    (folder / ".git" / "hooks" / "pre-push").chmod(0o755)
    with open_repository(folder, 60.0) as repository:
        for name in ("a", "b"):
            run(repository, name)
        assert push(repository, "origin") == ["a", "b"]
        assert push(repository, str(remote)) == ["a", "b"]
    assert refs(remote) == ["refs/debugkit/runs/a", "refs/debugkit/runs/b"]
    assert refs(folder) == ["refs/debugkit/runs/a", "refs/debugkit/runs/b", "refs/heads/main", "refs/tags/v1"]


def refs(folder: Path) -> list[str]:
    return git(folder, "for-each-ref", "--format=%(refname)").decode().split()


@pytest.mark.parametrize("remote", ["--upload-pack=touch ran", "ext::sh -c touch% ran", "gone", "-"])
def test_a_remote_that_is_none_is_refused_and_runs_nothing(tmp_path: Path, remote: str) -> None:
    folder = project(tmp_path / "project")
    with open_repository(folder, 60.0) as repository:
        run(repository, "a")
        with pytest.raises(Unavailable) as raised:
            push(repository, remote)
    assert raised.value.reason == "failed"
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("limit", [{"keep": -1}, {"older_than_days": -0.5}, {"older_than_days": float("nan")}])
def test_a_limit_below_nothing_deletes_nothing(tmp_path: Path, limit: dict[str, float]) -> None:
    with open_repository(project(tmp_path / "project")) as repository:
        run(repository, "one")
        with pytest.raises(ValueError, match="nothing was deleted"):
            prune(repository, **limit)
        assert [each.id for each in listed_runs(repository)] == ["one"]
