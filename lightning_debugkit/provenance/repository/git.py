"""Ask git, through gitpython, so that it changes nothing, runs nothing of the user's and ends in time."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

_KEPT = re.compile(
    r"GIT_(PYTHON_\w+|CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_\d+|VALUE_\d+)|EXEC_PATH|SSH|SSH_\w+|ASKPASS|SSL_\w+)"
)
_OURS = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_LITERAL_PATHSPECS": "1", "GIT_NO_LAZY_FETCH": "1"}
_SETTINGS = (
    f"core.hooksPath={os.devnull}",
    "core.fsmonitor=false",
    "core.splitIndex=false",
    "core.safecrlf=false",
    "core.quotePath=false",
    "core.logAllRefUpdates=false",
    "core.warnAmbiguousRefs=false",
    "advice.addEmbeddedRepo=false",
    "color.ui=false",
    "commit.gpgSign=false",
    "i18n.commitEncoding=UTF-8",
    "i18n.logOutputEncoding=UTF-8",
    "gc.auto=0",
    "maintenance.auto=false",
)
OFFLINE = ("protocol.allow=never",)  # a partial clone would fetch what it lacks
# Empty commands are no filter: the bytes are kept as they lie in the working tree.
WITHOUT_LFS = ("filter.lfs.process=", "filter.lfs.clean=", "filter.lfs.smudge=", "filter.lfs.required=false")
_LAST_WORDS = 1.0  # seconds that a killed process has to give its pipes back

_DUBIOUS = re.compile(r"git config --global --add safe\.directory .+")
_WORDS = {
    "no-git": "there is no git program",
    "no-repository": "the project lies in no git repository",
    "bare": "the repository is bare",
    "dubious-ownership": "the repository belongs to another user, and git distrusts it",
    "timeout": "git took too long",
}
_ADVICE = {
    "no-git": "Install git and gitpython, or set GIT_PYTHON_GIT_EXECUTABLE to the path of git.",
    "no-repository": "Put the project under git: git init.",
    "bare": "Run from a working tree: git worktree add FOLDER.",
    "timeout": "Allow more seconds, or keep large untracked folders in .gitignore.",
    "failed": "Run git status in the project: it says what is wrong.",
}


class Unavailable(Exception):
    """Git cannot answer, or the time is up: what asks git raises this."""

    def __init__(self, reason: str, advice: str = "", detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason  # `no-git`, `no-repository`, `bare`, `dubious-ownership`, `timeout` or `failed`
        self.advice = advice or _ADVICE.get(reason, "")
        self.detail = detail

    @property
    def words(self) -> str:
        """The reason as part of a sentence."""
        return _WORDS.get(self.reason) or str(self)


class Repository:
    """A working tree and its repository, for as long as ``open_repository`` keeps it open."""

    def __init__(self, program: Any, folder: Path, until: float, version: str) -> None:
        self._program = program  # gitpython's command line
        self._folder = folder
        self._until = until  # when the time is up, on `time.monotonic`
        self.version = version
        self.root = folder
        self.git_dir = folder / ".git"
        self.common_dir = self.git_dir
        self.is_shallow = False
        self.closing = contextlib.ExitStack()
        self.last_look: object = None

    @property
    def seconds_left(self) -> float:
        return self._until - time.monotonic()

    def allow(self, seconds: float) -> None:
        """Let git have so many seconds from now."""
        self._until = time.monotonic() + seconds

    @property
    def index(self) -> Path:
        """The user's own index; read it, never write it."""
        return self.git_dir / "index"

    def run(
        self,
        *args: str,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        settings: tuple[str, ...] = OFFLINE,
        folder: Path | None = None,
    ) -> bytes:
        """Run one git command and return the bytes it prints.

        Args:
            env: Variables beyond the scrubbed environment.
            settings: Configuration beyond that of every command.
            folder: Where to run it; the root of the working tree if not given.
        """
        if self.seconds_left <= 0:
            raise Unavailable("timeout", detail=f"no time is left for git {args[0]}")
        switches = [part for setting in (*_SETTINGS, *self._filters, *settings) for part in ("-c", setting)]
        variables = {**_OURS, **(env or {})}
        command = [*_unset(variables), _executable(), "-C", str(folder or self._folder), *switches, *args]
        try:
            process = self._program.execute(
                command,
                istream=subprocess.PIPE,
                as_process=True,
                env=variables,
                # A group of its own is killed as a whole, and Ctrl-C in the terminal does not stop git half-way.
                start_new_session=True,
            )
        except Exception as error:  # gitpython's own, and what a broken program raises
            raise Unavailable("no-git", detail=str(error)) from error
        out, said = _finish(process.proc, stdin, self.seconds_left, args[0])
        if process.proc.returncode != 0:
            raise _refused(said.decode(errors="replace").strip())
        return out

    @cached_property
    def _filters(self) -> tuple[str, ...]:
        return () if shutil.which("git-lfs") else WITHOUT_LFS

    @cached_property
    def config(self) -> dict[str, str]:
        """The configuration; of a name with several values the last."""
        lines = self.run("config", "--null", "--list").decode(errors="replace").split("\0")
        return {name: value for name, _, value in (line.partition("\n") for line in lines) if name}

    @cached_property
    def table(self) -> bytes:
        """Every entry of the user's index, as ``<flag> <mode> <id> <stage>TAB<path>NUL``."""
        return self.run("ls-files", "-z", "-v", "--stage")


@contextlib.contextmanager
def open_repository(path: Path, seconds: float = 10.0) -> Iterator[Repository]:
    """Open the repository whose working tree holds ``path``, for so many seconds in all.

    A repository that lies above ``path`` holds it if it tracks a file there. If it tracks none, it holds the folder
    unless it ignores it, or is the home folder or above: nobody's project begins there.

    Raises:
        Unavailable: There is none, or git cannot or will not say.
    """
    until = time.monotonic() + seconds
    folder = next(each for each in (path.absolute(), *path.absolute().parents) if each.is_dir())
    version = _version(until)
    try:
        import git  # late: it runs git when it is imported

        program = git.Git(str(folder))
    except (ImportError, AttributeError) as error:  # a module of the user's may be called git, too
        raise Unavailable("no-git", detail=f"gitpython: {error}") from error
    found = Repository(program, folder, until, version)
    _locate(found)
    with contextlib.suppress(git.InvalidGitRepositoryError):  # it believes the user's GIT_COMMON_DIR; git knows better
        repo = git.Repo(found.root)
        found.closing.callback(repo.close)
        found._program = repo.git
    with found.closing:
        yield found


def _locate(found: Repository) -> None:
    """Let git say where the working tree and the repository are."""
    folder = found._folder
    asked = ("--is-shallow-repository", "--absolute-git-dir", "--git-common-dir", "--show-toplevel")
    lines = os.fsdecode(found.run("rev-parse", *asked)).split("\n")
    if len(lines) != 5:  # a folder with a line feed in its name
        raise Unavailable("failed", "Move the project: a folder above it has a line feed in its name.")
    found.is_shallow = lines[0] == "true"
    found.git_dir = Path(lines[1])
    found.common_dir = Path(os.path.normpath(folder / lines[2]))
    found.root = found._folder = Path(lines[3])
    inside = os.path.relpath(folder.resolve(), found.root.resolve())
    if inside != os.curdir and not _holds(found, Path(inside)):
        raise Unavailable("no-repository", detail=f"{found.root} is a repository, but not that of {folder}")


def _holds(found: Repository, inside: Path) -> bool:
    place = re.escape(os.fsencode(inside.as_posix()) + b"/")
    if re.search(rb"(?:^|\0). \d+ [0-9a-f]+ \d\t" + place, found.table):
        return True
    root = found.root.resolve()
    if root == Path(root.anchor) or Path.home().resolve().is_relative_to(root):
        return False
    try:
        found.run("check-ignore", "--quiet", "--", f"./{inside.as_posix()}", env={"GIT_LITERAL_PATHSPECS": "0"})
    except Unavailable as error:
        if error.reason != "failed" or error.detail:
            raise
        return True  # it fails, and says nothing, where nothing is ignored
    return False


def _version(until: float) -> str:
    """Importing gitpython runs git, and waits for ever for one that hangs: try it first."""
    command = [*_unset({}), _executable(), "version"]
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
    except OSError as error:
        raise Unavailable("no-git", detail=str(error)) from error
    out, said = _finish(process, b"", until - time.monotonic(), "version")
    if process.returncode != 0:
        raise Unavailable("no-git", detail=said.decode(errors="replace").strip())
    return out.decode(errors="replace").strip().removeprefix("git version ")


def _executable() -> str:
    module = sys.modules.get("git")
    known = getattr(getattr(module, "Git", None), "GIT_PYTHON_GIT_EXECUTABLE", None)
    return str(known or os.environ.get("GIT_PYTHON_GIT_EXECUTABLE", "git"))


def _unset(ours: Mapping[str, str]) -> list[str]:
    """Return the beginning of a command that rids it of the user's ``GIT_DIR`` and the like; mostly there are none."""
    users = (name for name in os.environ if name.startswith("GIT_") and name not in ours)
    names = [name for name in users if not _KEPT.fullmatch(name)]
    return ["env", *(part for name in names for part in ("-u", name))] if names else []


def _finish(process: subprocess.Popen[bytes], stdin: bytes, seconds: float, name: str) -> tuple[bytes, bytes]:
    """Wait for a process, or kill it with all that it started."""
    try:
        return process.communicate(stdin, timeout=max(seconds, 0.001))
    except subprocess.TimeoutExpired as error:
        raise Unavailable("timeout", detail=f"git {name} was stopped") from error
    finally:
        if process.poll() is None:
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired, OSError, ValueError):
        process.communicate(timeout=_LAST_WORDS)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _refused(said: str) -> Unavailable:
    if remedy := _DUBIOUS.search(said):
        return Unavailable("dubious-ownership", f"If the repository is yours: {remedy[0]}", said.splitlines()[0])
    if "not a git repository" in said:
        return Unavailable("no-repository", detail=said.splitlines()[0])
    if "must be run in a work tree" in said:
        return Unavailable("bare", detail=said.splitlines()[0])
    return Unavailable("failed", detail=said[-500:])
