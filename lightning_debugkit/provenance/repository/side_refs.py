"""The side references of runs: ``refs/debugkit/runs/<id>``, where branches, tags and ``git push`` do not look."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

from lightning_debugkit.provenance.repository.git import Repository, Unavailable

RUNS = "refs/debugkit/runs/"
PHASE = "Debugkit-Phase"
RUN = "Debugkit-Run"

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*")
_TRAILER = re.compile(r"([A-Za-z0-9-]+): (.*)")
_FORMAT = "%H%x00%P%x00%ct%x00%B%x00"
_REMOTE_HELPER = re.compile(r"[A-Za-z0-9]+::")


@dataclass(frozen=True)
class RunRef:
    """One run, as its side reference tells it."""

    id: str
    start: str  # the commit of the working tree when the run began
    end: str | None  # the commit of the working tree when it ended, `None` if it did not, or was killed
    trailers: Mapping[str, str] = field(default_factory=dict)  # what was noted, of the end where both have it
    when: str = ""  # when it began, in UTC
    ended: str | None = None  # when it ended
    base: str | None = None  # the user's own commit below, `None` if there was none
    subject: str = ""  # first line of the start's message


@dataclass(frozen=True)
class _Commit:
    id: str
    parents: tuple[str, ...]
    seconds: int
    message: str

    @property
    def trailers(self) -> dict[str, str]:
        last = self.message.strip().rpartition("\n\n")[2]
        return {match[1]: match[2] for line in last.splitlines() if (match := _TRAILER.fullmatch(line))}

    @property
    def when(self) -> str:
        return datetime.fromtimestamp(self.seconds, timezone.utc).isoformat(timespec="seconds")


def reference(run_id: str) -> str:
    """Return the full name of a run's reference; raises `Unavailable` where no reference can have that name."""
    if not _ID.fullmatch(run_id) or run_id.endswith(".lock"):
        raise Unavailable("failed", "Use letters, digits, - and _.", f"{run_id!r} cannot name a reference")
    return RUNS + run_id


def listed_runs(repository: Repository) -> list[RunRef]:
    """Return the runs of a repository, the oldest first; raises `Unavailable` where Git cannot say."""
    tips = _tips(repository)
    ends = _commits(repository, tips.values())
    starts = _commits(repository, (parent for tip in ends.values() if _is_end(tip) for parent in tip.parents[:1]))
    runs = []
    for run_id, tip in tips.items():
        commit = ends.get(tip)
        if commit is None:
            continue
        start = starts.get(commit.parents[0]) if _is_end(commit) and commit.parents else None
        first = start or commit
        runs.append(
            RunRef(
                id=run_id,
                start=first.id,
                end=commit.id if start else None,
                trailers={**first.trailers, **commit.trailers},
                when=first.when,
                ended=commit.when if start else None,
                base=first.parents[0] if first.parents else None,
                subject=first.message.partition("\n")[0],
            )
        )
    return sorted(runs, key=lambda run: (run.when, run.id))


def prune(
    repository: Repository, keep: int | None = None, older_than_days: float | None = None, dry: bool = False
) -> list[str]:
    """Delete references, and return the runs they were of; git frees their objects when it next collects garbage.

    Args:
        keep: Spare so many of the newest.
        older_than_days: Spare those that began later; given both, a run goes only if neither spares it.

    Raises:
        ValueError: Neither limit is given, or one is negative.
    """
    if keep is None and older_than_days is None:
        raise ValueError("prune needs keep or older_than_days, got neither; keep=50 is a good start.")
    for name, given in (("keep", keep), ("older_than_days", older_than_days)):
        if given is not None and not given >= 0:
            raise ValueError(f"prune needs {name} >= 0, got {given!r}; nothing was deleted.")
    runs = listed_runs(repository)
    doomed = runs[: max(len(runs) - keep, 0)] if keep is not None else runs
    if older_than_days is not None:
        limit = time.time() - older_than_days * 24 * 3600
        doomed = [run for run in doomed if datetime.fromisoformat(run.when).timestamp() < limit]
    if doomed and not dry:
        # One transaction; a reference that moved in the meantime is not deleted, and then none is.
        lines = "".join(f"delete {reference(run.id)} {run.end or run.start}\n" for run in doomed)
        repository.run("update-ref", "--stdin", stdin=lines.encode())
    return [run.id for run in doomed]


def push(repository: Repository, remote: str) -> list[str]:
    """Send side references, and nothing else, to a remote; return the runs that it has now.

    Raises:
        Unavailable: Git does not: the remote refuses, or asks for a password.
    """
    if remote.startswith("-") or _REMOTE_HELPER.match(remote):
        raise Unavailable("failed", "Name a remote of the repository.", f"{remote!r} is not taken for a remote")
    wanted = list(_tips(repository))
    if wanted:
        options = ("--no-verify", "--no-follow-tags", "--recurse-submodules=no", "--no-signed", "--porcelain")
        settings = (f"remote.{remote}.mirror=false", "push.pushOption=")
        names = [f"{reference(run_id)}:{reference(run_id)}" for run_id in wanted]
        try:
            repository.run("push", *options, "--", remote, *names, settings=settings)
        except Unavailable as error:
            said = next((line for line in error.detail.splitlines() if line.strip()), "")
            raise Unavailable(error.reason, f"Look at the remote: git remote get-url {remote}.", said) from error
    return wanted


def _is_end(commit: _Commit) -> bool:
    return commit.trailers.get(PHASE) == "end"


def _tips(repository: Repository) -> dict[str, str]:
    lines = repository.run("for-each-ref", "--format=%(refname) %(objectname)", RUNS).decode().splitlines()
    pairs = (line.split(" ") for line in lines)
    return {name.removeprefix(RUNS): tip for name, tip in pairs}


def _commits(repository: Repository, ids: Iterable[str]) -> dict[str, _Commit]:
    asked = "\n".join(ids)
    if not asked:
        return {}
    options = ("--no-walk=unsorted", "--ignore-missing", f"--format=tformat:{_FORMAT}", "--no-show-signature")
    fields = repository.run("log", *options, "--stdin", stdin=asked.encode()).decode(errors="replace").split("\0")
    found = {}
    for commit, parents, seconds, message in zip(*(fields[n::4] for n in range(4)), strict=False):
        each = _Commit(commit.strip(), tuple(parents.split()), int(seconds), message)
        found[each.id] = each
    return found
