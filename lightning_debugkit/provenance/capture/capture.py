"""Take one picture of a run's code: repository, sources, environment; what cannot be had is said, never raised."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lightning_debugkit.core.secrets import scrub_arguments, scrub_text
from lightning_debugkit.provenance.capture import project_modules, sources
from lightning_debugkit.provenance.capture.environment import environment
from lightning_debugkit.provenance.capture.notebook_cells import notebook_source
from lightning_debugkit.provenance.carried.manifest import FORMAT, Manifest
from lightning_debugkit.provenance.repository import commit_facts as identities
from lightning_debugkit.provenance.repository import commit_tree, git

Part = dict[str, Any]
_OF_GIT = 0.8  # share of the time left that git may take, so that some is left to find out what the model uses
_PARTS = ("identity", "tree", "source", "environment")


@dataclass(frozen=True)
class Wanted:
    """What to take a picture of."""

    model: type
    main: Path | None  # script that runs, `None` in a notebook
    made_of: tuple[str, ...] = ()  # modules that define the classes of its parts
    run: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    label: str = ""  # its name in the experiment log
    side_ref: bool = True  # keep the whole working tree as a commit on `refs/debugkit/runs/<id>`
    include: tuple[str, ...] = ()  # names of further files of the project to take, such as `*.yaml`
    max_file: int = 1_000_000  # bytes of the largest file taken
    max_bundle: int = 20_000_000  # bytes of the sources that travel with a checkpoint, packed
    seconds: float = 10.0


@dataclass(frozen=True)
class Capture:
    """What was taken."""

    manifest: Manifest  # what is known, plain types
    source: bytes | None  # the sources, packed; `None` if there are none or they are too large
    root: Path
    seconds: float  # how long it took


def capture(wanted: Wanted) -> Capture:
    """Return a picture of the code behind a run, within its time limit."""
    began = time.monotonic()
    now = datetime.now(timezone.utc)
    picture = _Picture(wanted, f"{now:%Y%m%d-%H%M%S}-{os.urandom(3).hex()}")
    # In a thread: a file system that hangs must not hold up the training.
    worker = threading.Thread(target=picture.take, name="debugkit-capture", daemon=True)
    worker.start()
    worker.join(wanted.seconds)
    parts = dict(picture.parts)  # what a late worker adds is not waited for
    if worker.is_alive():
        late = {"present": False, "reason": f"it took longer than {wanted.seconds:g} s"}
        parts = {**dict.fromkeys(_PARTS, late), **parts}
    data = {
        "format": FORMAT,
        "id": picture.id,
        "captured": now.isoformat(timespec="seconds"),
        "note": picture.note,
        "label": picture.label,
        "run": dict(wanted.run),
        "model": {"module": wanted.model.__module__, "qualname": wanted.model.__qualname__, "path": None, "files": []},
        **parts,
    }
    taken = picture.source if parts["source"].get("present") else None
    return Capture(Manifest(data), taken.zip if taken else None, picture.root, time.monotonic() - began)


class _Picture:
    """Takes one part after another; a part that fails leaves its reason."""

    def __init__(self, wanted: Wanted, name: str) -> None:
        self.wanted = wanted
        self.id = name
        self.note, self.label = scrub_text(wanted.note), scrub_text(wanted.label)
        self.parts: dict[str, Part] = {}
        self.source: sources.Source | None = None
        self.root = wanted.main.parent if wanted.main else Path.cwd()
        self.until = time.monotonic() + wanted.seconds

    def take(self) -> None:
        """Take the sources first: without them the weights have no code; the rest can be found out later."""
        model, main = self.wanted.model, self.wanted.main
        with contextlib.suppress(Exception):
            self.root = project_modules.project_root(model, main, None)
        try:
            # Half the time at most: a repository that hangs leaves some for what needs no git.
            with git.open_repository(self.root, max(self.until - time.monotonic(), 0.2) / 2) as repository:
                self.root = project_modules.project_root(model, main, repository.root)
                self._take_files()
                repository.allow(max(self.until - time.monotonic(), 0.1) * _OF_GIT)
                self._take(("identity",), lambda: {"identity": {**identities.identity(repository), "present": True}})
                self._take(("tree",), lambda: {"tree": self._commit(repository)})
        except git.Unavailable as error:
            self._go_without(error)
            self._take_files()
        except Exception as error:
            self.parts.update(dict.fromkeys(("identity", "tree"), _absent(error)))
            self._take_files()
        if (taken := self.source) is not None:
            self._take((), lambda: {"model": taken.part_of_model(self.wanted.model, self.wanted.made_of)})

    def _take(self, names: tuple[str, ...], take: Callable[[], dict[str, Part]]) -> None:
        try:
            self.parts.update(take())
        except git.Unavailable as error:
            self._go_without(error)
        except Exception as error:
            self.parts.update(dict.fromkeys(names, _absent(error)))

    def _go_without(self, error: git.Unavailable) -> None:
        absent = {"present": False, "reason": error.words, "advice": error.advice}
        known = identities.bare_identity(self.root) or {}
        self.parts = {"identity": {**known, **absent}, "tree": absent, **self.parts}

    def _take_files(self) -> None:
        if "source" not in self.parts:
            self._take(("source",), self._of_sources)
            self._take(("environment",), self._of_environment)

    def _commit(self, repository: git.Repository) -> Part:
        if not self.wanted.side_ref:
            return {"present": False, "reason": "side_ref is off"}
        # The first line is what git shows of a commit.
        said = self.note or self.label or f"run {self.id}"
        dirty = "yes" if self.parts.get("identity", {}).get("dirty") else "no"
        told = {"Debugkit-Dirty": dirty, "Debugkit-Note": self.note, "Debugkit-Label": self.label}
        trailers = {name: text for name, text in told.items() if text}
        kept = commit_tree.commit_tree(repository, self.id, said, max_file=self.wanted.max_file, trailers=trailers)
        skipped = [{"path": each.path, "reason": each.reason, "bytes": each.bytes} for each in kept.skipped]
        return {"present": True, "commit": kept.commit, "tree": kept.tree, "ref": kept.ref, "skipped": skipped}

    def _of_sources(self) -> dict[str, Part]:
        wanted = self.wanted
        found = project_modules.project_modules(self.root, wanted.main)
        taken = sources.collect(
            self.root, found, wanted.main, wanted.include, max_file=wanted.max_file, max_bundle=wanted.max_bundle
        )
        self.source = taken
        told = {"present": True, "carried": taken.zip is not None, "packed": taken.packed}
        return {"source": {**taken.part(), **told}, "model": taken.part_of_any(wanted.model)}

    def _of_environment(self) -> dict[str, Part]:
        editable = {name: str(path) for name, path in project_modules.editable_roots().items()}
        arguments = [] if notebook_source() is not None else scrub_arguments(sys.argv)  # those are a kernel's
        return {"environment": environment(arguments, editable, project_modules.main_module())}


def _absent(error: Exception) -> Part:
    return {"present": False, "reason": f"{type(error).__name__}: {error}"}
