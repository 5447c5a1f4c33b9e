"""Git that is missing, hangs, refuses or is misled: said in one word with its remedy, and in time."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import git as gitpython  # noqa: F401  # loaded before its program is taken away
import pytest
from provenance.working_trees import fingerprint, git, new, project, script, write

import lightning_debugkit
from lightning_debugkit.provenance.repository.commit_facts import identity
from lightning_debugkit.provenance.repository.commit_tree import commit_tree, write_tree
from lightning_debugkit.provenance.repository.git import Unavailable, open_repository

pytestmark = [
    pytest.mark.usefixtures("own_home"),
    pytest.mark.skipif(os.name == "nt", reason="shell scripts of POSIX"),
]
GIT = shutil.which("git") or ""


def refused(path: Path, seconds: float = 10.0) -> Unavailable:
    with pytest.raises(Unavailable) as raised:
        take(path, seconds)
    return raised.value


def take(path: Path, seconds: float = 10.0) -> None:
    with open_repository(path, seconds) as repository:
        identity(repository)
        write_tree(repository)


def handles() -> list[Path]:
    return sorted(Path("/proc/self/fd").iterdir()) if sys.platform == "linux" else []


def first_in_path(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script(folder / "bin" / "git", text)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")


def test_without_the_program_the_advice_is_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path / "project")
    monkeypatch.setenv("PATH", str(tmp_path))
    error = refused(tmp_path / "project")
    assert error.reason == "no-git"
    assert error.advice.startswith("Install git")


@pytest.mark.parametrize("loaded", [True, False])
def test_without_the_program_a_fresh_process_learns_the_same(tmp_path: Path, loaded: bool) -> None:
    """gitpython cannot be imported without git, unless it is told to be quiet."""
    project(tmp_path / "project")
    ask = (
        "from pathlib import Path\n"
        "from lightning_debugkit.provenance.repository.git import Unavailable, open_repository\n"
        "try:\n"
        f"    open_repository(Path({str(tmp_path / 'project')!r})).__enter__()\n"
        "except Unavailable as error:\n"
        "    print(error.reason)\n"
    )
    environment = {**os.environ, "PATH": str(tmp_path), "PYTHONPATH": str(Path(lightning_debugkit.__file__).parents[1])}
    environment |= {"GIT_PYTHON_REFRESH": "quiet"} if loaded else {}
    said = subprocess.run([sys.executable, "-c", ask], capture_output=True, env=environment, check=True, timeout=60)
    assert said.stdout.decode().strip() == "no-git"


def test_a_module_of_the_users_called_git_is_not_taken_for_gitpython(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(tmp_path / "project")
    monkeypatch.setitem(sys.modules, "git", type(sys)("git"))
    assert refused(tmp_path / "project").reason == "no-git"


def test_dubious_ownership_is_not_worked_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project(tmp_path / "project")
    first_in_path(tmp_path, f'GIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec {GIT} "$@"', monkeypatch)
    error = refused(folder)
    assert error.reason == "dubious-ownership"
    assert f"git config --global --add safe.directory {folder}" in error.advice


def test_trust_that_the_environment_declares_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers do so."""
    folder = project(tmp_path / "project")
    first_in_path(tmp_path, f'GIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec {GIT} "$@"', monkeypatch)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "safe.directory")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(folder))
    monkeypatch.setenv("GIT_DIR", "/no/such")
    with open_repository(folder) as repository:
        assert repository.root == folder


@pytest.mark.parametrize("command", ["version", "rev-parse", "status", "update-index", "write-tree"])
def test_a_git_that_hangs_is_stopped_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Its child holds the pipes open, which is what makes a plain kill wait for ever."""
    folder = project(tmp_path / "project")
    before = fingerprint(folder)
    mark = f"{tmp_path.name}-{os.getpid()}"
    hang = (
        f'for each in "$@"; do if [ "$each" = {command} ]; then sleep 987 & echo $! > {tmp_path}/child; wait; fi; done'
    )
    first_in_path(tmp_path, f'# {mark}\n{hang}\nexec {GIT} "$@"', monkeypatch)
    began = time.monotonic()
    error = refused(folder, seconds=1.0)
    assert error.reason == "timeout"
    assert time.monotonic() - began < 2.5
    child = int((tmp_path / "child").read_text())
    assert not is_running(child)
    assert fingerprint(folder) == before


def is_running(process: int) -> bool:
    for _ in range(50):
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, check=False).stdout
        if not state.strip() or state.startswith(b"Z"):
            return False
        time.sleep(0.02)
    return True


def test_a_hanging_git_is_found_out_before_gitpython_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_in_path(tmp_path, "sleep 987", monkeypatch)
    for name in [name for name in sys.modules if name.partition(".")[0] == "git"]:
        monkeypatch.delitem(sys.modules, name)
    began = time.monotonic()
    assert refused(project_without_git(tmp_path), seconds=0.5).reason == "timeout"
    assert time.monotonic() - began < 2.0


def project_without_git(folder: Path) -> Path:
    write(folder / "project", train="print(1)\n")
    return folder / "project"


def test_no_handle_and_no_process_is_left(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    take(folder)
    before = handles()
    for _ in range(5):
        take(folder)
        assert refused(tmp_path).reason == "no-repository"
    assert handles() == before


def test_a_repository_that_cannot_be_written_is_still_described(tmp_path: Path) -> None:
    """Of root, all can write anywhere: the question is asked as nobody."""
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        folder = project(place / "project")
        place.chmod(0o755)
        for path in [folder, *(Path(at) / name for at, names, files in os.walk(folder) for name in [*names, *files])]:
            if os.geteuid() == 0:
                os.chown(path, 65534, 65534)
            if ".git" in path.parts:
                path.chmod(0o555 if path.is_dir() else 0o444)
        before = fingerprint(folder)
        answers = multiprocessing.get_context("fork").Queue()
        child = multiprocessing.get_context("fork").Process(target=as_nobody, args=(folder, place, answers))
        child.start()
        assert answers.get(timeout=60) == (2, "failed", [])
        child.join(timeout=60)
        assert fingerprint(folder) == before
    finally:
        for at, names, _ in os.walk(place):
            for name in names:
                (Path(at) / name).chmod(0o755)
        shutil.rmtree(place)


def as_nobody(folder: Path, place: Path, answers: multiprocessing.Queue[tuple[int, str, list[str]]]) -> None:
    drafts = place / "drafts"
    drafts.mkdir()
    drafts.chmod(0o777)
    tempfile.tempdir = str(drafts)
    os.environ["HOME"] = str(drafts)
    if os.geteuid() == 0:
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    count, reason = -1, ""
    try:
        with open_repository(folder) as repository:
            count = identity(repository)["changed_count"]
            write_tree(repository)
    except Unavailable as error:
        reason = error.reason
    answers.put((count, reason, [path.name for path in drafts.iterdir()]))


def test_no_time_left_is_a_timeout(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    with open_repository(folder, 5.0) as repository:
        repository._until = time.monotonic() - 1
        with pytest.raises(Unavailable) as raised:
            commit_tree(repository, "run-1", "late")
    assert raised.value.reason == "timeout"
    assert git(folder, "for-each-ref", "refs/debugkit") == b""


def test_a_line_feed_in_the_name_of_a_folder_is_refused(tmp_path: Path) -> None:
    assert refused(project(tmp_path / "two\nlines")).reason == "failed"


def test_a_file_is_looked_up_by_its_folder(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    with open_repository(folder / "pkg" / "model.py") as repository:
        assert repository.root == folder
        assert repository.git_dir == folder / ".git"


def test_a_linked_way_to_the_project_is_the_project(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    (tmp_path / "way").symlink_to(folder / "pkg")
    with open_repository(tmp_path / "way") as repository:
        assert repository.root == folder


def test_a_folder_that_is_nowhere_has_no_repository(tmp_path: Path) -> None:
    new(tmp_path / "project")
    assert refused(tmp_path / "gone" / "deeper").reason == "no-repository"
