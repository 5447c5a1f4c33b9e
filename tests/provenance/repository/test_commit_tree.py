"""The tree of a working tree: what it costs, what it leaves out, and what a kill or a crowd does to it."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from provenance.working_trees import commit, fingerprint, git, new, project, put, tree_of, write

import lightning_debugkit
from lightning_debugkit.provenance.repository import commit_tree as trees
from lightning_debugkit.provenance.repository.commit_facts import identity
from lightning_debugkit.provenance.repository.commit_tree import CommittedTree, commit_tree, end_run, write_tree
from lightning_debugkit.provenance.repository.file_choice import Skipped, folded_skips
from lightning_debugkit.provenance.repository.git import Unavailable, open_repository
from lightning_debugkit.provenance.repository.side_refs import listed_runs

pytestmark = [
    pytest.mark.usefixtures("own_home"),
    pytest.mark.skipif(os.name == "nt", reason="locks and kills of POSIX"),
]


def tree(folder: Path, **options: int) -> CommittedTree:
    with open_repository(folder, 60.0) as repository:
        return write_tree(repository, **options)


def drafts() -> list[Path]:
    return list(Path(tempfile.gettempdir()).iterdir())


def test_the_tree_is_that_of_git_add(tmp_path: Path) -> None:
    """The second road: stage all and write the index."""
    folder = project(tmp_path / "project")
    found = tree(folder).tree
    git(folder, "add", "-A")
    assert git(folder, "write-tree").decode().strip() == found


def test_equal_files_have_an_equal_tree(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    first = tree(folder).tree
    write(folder, pkg__model="width = 17\n")
    assert tree(folder).tree != first
    write(folder, pkg__model="width = 16\n")
    assert tree(folder).tree == first
    commit(folder, "nothing but the commit is new")
    assert tree(folder).tree == first


def test_two_trees_of_one_open_repository_are_of_two_moments(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    with open_repository(folder) as repository:
        first = write_tree(repository).tree
        write(folder, pkg__model="width = 17\n")
        assert write_tree(repository).tree != first


def test_a_change_within_one_tick_of_the_index_is_seen(tmp_path: Path) -> None:
    """A copied index must be as old as the original: git trusts times that are older than it."""
    folder = project(tmp_path / "project")
    put(folder, "same.py", b"lr = 1\n")
    git(folder, "add", "-A")
    tick = (folder / ".git" / "index").stat().st_mtime_ns
    put(folder, "same.py", b"lr = 2\n")
    os.utime(folder / "same.py", ns=(tick, tick))
    assert tree_of(folder, tree(folder).tree)[b"same.py"] == b"lr = 2\n"


def test_a_huge_untracked_file_is_never_read(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    huge = put(folder, "dump.bin", b"")
    os.truncate(huge, 1 << 40)  # to read it would take an hour
    os.utime(huge, ns=(1, 1))
    found = tree(folder)
    assert found.skipped == (Skipped("dump.bin", f"too large: {1 << 40:,} bytes", 1 << 40),)
    assert huge.stat().st_atime_ns == 1


def test_a_large_file_that_did_not_change_stays_and_is_not_read(tmp_path: Path) -> None:
    folder = new(tmp_path / "project")
    git(folder, "config", "core.trustctime", "false")
    for data in (bytes(2_000_000), bytes([1]) * 2_000_000):  # what was read would show: the time says it is unchanged
        put(folder, "weights.bin", data)
        os.utime(folder / "weights.bin", (1e9, 1e9))
        if not any(data):
            commit(folder)
    found = tree(folder)
    assert found.skipped == ()
    assert found.tree == git(folder, "rev-parse", "HEAD^{tree}").decode().strip()


def test_beyond_the_total_code_is_kept_and_a_data_set_is_told_in_one_line(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    for n in range(30):
        put(folder, f"data/{n}.png", bytes(1000))
    put(folder, "zoo.py", b"#" * 5000)
    found = tree(folder, max_total=15_000)
    kept = tree_of(folder, found.tree)
    assert kept[b"zoo.py"] == b"#" * 5000
    pictures = sum(name.startswith(b"data/") for name in kept)
    assert 0 < pictures <= 10
    (told,) = found.skipped
    assert (told.path, told.bytes) == ("data/", (30 - pictures) * 1000)
    assert told.reason == f"{30 - pictures} files, more than 15,000 bytes or 10,000 files in all"


def test_what_is_told_does_not_grow_with_a_data_set() -> None:
    many = [Skipped(f"data/{n % 3000}/{n}.wav", f"too large: {n} bytes", 2) for n in range(90_000)]
    assert folded_skips(many) == (Skipped("data/", "90,000 files, too large", 180_000),)
    wide = [Skipped(f"{n}.wav", f"{n}", 1) for n in range(1000)]
    assert len(folded_skips(wide)) == 201
    assert sum(each.bytes for each in folded_skips(wide)) == 1000


def test_the_start_of_a_run_is_a_child_of_the_commit_and_its_end_a_child_of_the_start(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    head = git(folder, "rev-parse", "HEAD").decode().strip()
    with open_repository(folder) as repository:
        start = commit_tree(repository, "run-1", "why\n\nmore", trailers={"Debugkit-Label": "e1\nInjected: yes"})
        write(folder, pkg__model="width = 64\n")
        assert start.commit is not None
        end = end_run(repository, "run-1", start.commit, "done", {"Debugkit-Outcome": "finished"})
    assert git(folder, "log", "--format=%H %P", end).decode().split("\n")[:2] == [
        f"{end} {start.commit}",
        f"{start.commit} {head}",
    ]
    assert tree_of(folder, start.tree)[b"pkg/model.py"] == b"width = 16\n"
    assert tree_of(folder, end)[b"pkg/model.py"] == b"width = 64\n"
    trailers = git(folder, "log", "-1", "--format=%(trailers:only)", start.commit).decode().split("\n")
    assert trailers[:3] == ["Debugkit-Run: run-1", "Debugkit-Phase: start", "Debugkit-Label: e1 Injected: yes"]


def test_a_reference_is_never_overwritten(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    with open_repository(folder) as repository:
        first = commit_tree(repository, "run-1", "first")
        write(folder, pkg__model="width = 64\n")
        with pytest.raises(Unavailable) as raised:
            commit_tree(repository, "run-1", "second")
        assert raised.value.reason == "failed"
        with pytest.raises(Unavailable):
            end_run(repository, "run-1", git(folder, "rev-parse", "HEAD").decode().strip(), "not its start", {})
        assert [run.start for run in listed_runs(repository)] == [first.commit]
        assert listed_runs(repository)[0].end is None


@pytest.mark.parametrize("name", ["", "../heads/main", "a b", "-x", "a.lock", "a..b", "a/b", "a\n", "x" + chr(0)])
def test_a_run_cannot_name_another_reference(tmp_path: Path, name: str) -> None:
    folder = project(tmp_path / "project")
    before = fingerprint(folder)
    with open_repository(folder) as repository, pytest.raises(Unavailable, match="cannot name a reference"):
        commit_tree(repository, name, "message")
    assert fingerprint(folder) == before


@pytest.mark.parametrize("message", ["", "\0", "\ud800", "-m", "# comment", "ünï\r\n"])
def test_any_message_is_taken(tmp_path: Path, message: str) -> None:
    folder = project(tmp_path / "project")
    with open_repository(folder) as repository:
        assert commit_tree(repository, "run-1", message).commit
        (run,) = listed_runs(repository)
    assert run.trailers == {"Debugkit-Run": "run-1", "Debugkit-Phase": "start"}


def test_eight_processes_at_once_have_a_reference_each(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    before = fingerprint(folder)
    with multiprocessing.get_context("fork").Pool(8) as pool:
        found = pool.starmap(one_of_many, [(folder, f"run-{n}") for n in range(16)])
    assert len({tree for tree, _ in found}) == 1
    with open_repository(folder) as repository:
        assert {run.id: run.end for run in listed_runs(repository)} == {
            f"run-{n}": end for n, (_, end) in enumerate(found)
        }
    assert fingerprint(folder) == before
    git(folder, "fsck", "--strict")
    assert drafts() == []


def one_of_many(folder: Path, name: str) -> tuple[str, str]:
    with open_repository(folder, 120.0) as repository:
        identity(repository)
        kept = commit_tree(repository, name, "message")
        return kept.tree, end_run(repository, name, kept.commit or "", "done", {})


FOR_EVER = """
import sys, itertools, os
from pathlib import Path
from lightning_debugkit.provenance.repository import commit_tree, git, commit_facts
folder = Path(sys.argv[1])
for n in itertools.count():
    (folder / "new.py").write_text(f"{os.getpid()} {n}")
    with git.open_repository(folder, 60) as repository:
        commit_facts.identity(repository)
        kept = commit_tree.commit_tree(repository, f"run-{os.getpid()}-{n}", "message")
        print(kept.commit, flush=True)
        commit_tree.end_run(repository, f"run-{os.getpid()}-{n}", kept.commit, "done", {})
"""


def test_kills_leave_a_sound_repository_and_their_drafts_are_swept(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    for n in range(300):
        put(folder, f"many/{n}.py", b"%d" % n)
    commit(folder)
    put(folder, "new.py", b"")
    before = without_times(folder)
    environment = {
        **os.environ,
        "TMPDIR": tempfile.gettempdir(),
        "PYTHONPATH": str(Path(lightning_debugkit.__file__).parents[1]),
    }
    chance, told, left = random.Random(0), [], 0
    for _ in range(12):
        child = subprocess.Popen(
            [sys.executable, "-c", FOR_EVER, str(folder)],
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        assert child.stdout is not None
        told.append(child.stdout.readline().decode().strip())
        time.sleep(chance.uniform(0, 0.1))
        os.killpg(child.pid, signal.SIGKILL)
        told += child.stdout.read().decode().split("\n")[:-1]
        child.wait()
        child.stdout.close()
        left += len(drafts())
    git(folder, "fsck", "--strict")
    assert all(git(folder, "cat-file", "-t", commit) == b"commit\n" for commit in told if len(commit) == 40)
    assert left > 0, "no kill fell into a snapshot: the test saw nothing"
    put(folder, "new.py", b"")
    tree(folder)
    assert [path for path in drafts() if (path / "lock").exists() or (path / "index").exists()] == []
    assert without_times(folder) == before


def without_times(folder: Path) -> dict[str, object]:
    return {name: facts[:2] for name, facts in fingerprint(folder).items() if isinstance(facts, tuple)}


def test_a_draft_in_use_is_not_swept(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    with open_repository(folder) as first:
        identity(first)
        tree(folder)
        assert len(drafts()) == 1
        assert write_tree(first).tree == tree(folder).tree


def test_a_folder_for_temporary_files_that_is_full_or_gone_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project(tmp_path / "project")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(Unavailable) as raised:
        tree(folder)
    assert raised.value.advice == "Make room in the folder for temporary files."


def test_the_side_reference_is_where_git_does_not_look(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    new(tmp_path / "remote", "--bare")
    git(folder, "remote", "add", "origin", str(tmp_path / "remote"))
    with open_repository(folder) as repository:
        kept = commit_tree(repository, "run-1", "message")
    git(folder, "push", "-q", "--all", "origin")
    git(folder, "push", "-q", "--tags", "origin")
    git(folder, "gc", "-q", "--prune=now")
    assert b"run-1" not in git(folder, "branch", "-a") + git(folder, "tag") + git(folder, "ls-remote", "origin")
    assert git(folder, "cat-file", "-t", kept.commit or "") == b"commit\n"


def test_a_capture_takes_few_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs milliseconds: the start of a training pays for them."""
    folder = project(tmp_path / "project")
    calls: list[str] = []
    run = trees.Repository.run

    def counted(self: trees.Repository, *args: str, **options: object) -> bytes:
        calls.append(args[0])
        return run(self, *args, **options)

    monkeypatch.setattr(trees.Repository, "run", counted)
    with open_repository(folder) as repository:
        identity(repository)
        commit_tree(repository, "run-1", "message")
    asked = ["rev-parse", "ls-files", "status", "describe", "config", "update-index", "write-tree", "commit-tree"]
    assert calls == [*asked, "update-ref"]
