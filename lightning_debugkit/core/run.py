"""One run of a Trainer: its folder, its journal, its header and its end, shared by all kit callbacks in it."""

from __future__ import annotations

import os
import platform
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import lightning
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_debugkit.core.journal import Journal

_SECONDS = 3.0  # that git may take to name the commit

# Keyed by Trainer, not kept on it: the Trainer is the user's.
_runs: WeakKeyDictionary[Trainer, Run] = WeakKeyDictionary()


@dataclass(eq=False)
class Run:
    """The journal of one fit, and whether it has ended."""

    folder: Path
    rank: int
    began: float = field(default_factory=time.monotonic)
    ended: bool = False
    written: int = 0
    rendered: int = -1
    lost: int = 0
    is_replaying: bool = False
    clip_norm: Tensor | None = None  # as the last clipping by norm computed it
    wide_norms: dict[int, float] = field(default_factory=dict)  # by step: norms that 32 bits cannot hold
    is_trivial_told: bool = False  # that the model is no better than a constant answer: two callbacks can see it
    trained: int | None = None  # optimizer steps of this run that had a gradient; None where nobody counts
    norms: tuple[Any, Tensor] | None = None  # of the step in progress: see `shared_norms`

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return round(time.monotonic() - self.began, 1)

    def append(self, kind: str, **fields: Any) -> None:
        """Write one event; a disk that is full or gone is said once and never ends the training."""
        try:
            Journal(self.folder, self.rank).append({"kind": kind, **fields})
            self.written += 1
        except OSError as error:
            self.lost += 1
            if self.lost == 1:
                warnings.warn(
                    f"lightning-debugkit cannot write its journal in {self.folder} ({error}): "
                    "training goes on, but the report will lack what is not written.",
                    stacklevel=2,
                )


def current_run(trainer: Trainer) -> Run | None:
    """Return the run that a kit callback opened for ``trainer``, if any."""
    return _runs.get(trainer)


def open_run(trainer: Trainer, module: LightningModule) -> Run:
    """Return the open run of ``trainer``, a new one in a folder of its own if there is none.

    Every rank must call this at the same place: the folder is agreed on.
    """
    run = _runs.get(trainer)
    if run is None or run.ended:
        # trainer.log_dir is a collective: ask here, in setup, where every rank does.
        base = Path(trainer.log_dir or trainer.default_root_dir)
        folder = _claim(base.absolute()) if trainer.is_global_zero else ""
        folder = trainer.strategy.broadcast(folder)
        run = _runs[trainer] = Run(Path(folder), trainer.global_rank)
        run.append("run", **_header(trainer, module))
    return run


def _claim(base: Path) -> str:
    """Make and return a folder that no other run has: ``debugkit``, else ``debugkit-1`` and so on."""
    try:
        base.mkdir(parents=True, exist_ok=True)
        for number in range(10_000):
            folder = base / (f"debugkit-{number}" if number else "debugkit")
            try:
                folder.mkdir()
            except FileExistsError:
                if not folder.is_dir() or any(folder.glob("journal-*.jsonl")):
                    continue
            # What a run leaves is no change of the project that trains.
            (folder / ".gitignore").write_text("*\n", encoding="utf-8")
            return str(folder)
    except OSError as error:
        folder = Path(tempfile.mkdtemp(prefix="lightning-debugkit-"))
        warnings.warn(
            f"lightning-debugkit cannot make a run folder in {base} ({error}); it writes to {folder} instead.",
            stacklevel=2,
        )
        return str(folder)
    raise RuntimeError(f"{base} holds ten thousand runs; give the Trainer another default_root_dir.")


def _header(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    commit, dirty = _commit(module) if trainer.is_global_zero else (None, None)
    seed = os.environ.get("PL_GLOBAL_SEED")
    return {
        "rank": trainer.global_rank,
        "world_size": trainer.world_size,
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seed": int(seed) if seed and seed.isdigit() else None,
        "commit": commit,
        "dirty": dirty,
        "versions": {
            "lightning_debugkit": _version(),
            "lightning": lightning.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "callbacks": _company(trainer),
        "config": {
            "model": type(module).__name__,
            "parameters": sum(p.numel() for p in module.parameters() if not torch.nn.parameter.is_lazy(p)),
            "strategy": type(trainer.strategy).__name__,
            "precision": str(trainer.precision),
            "max_epochs": trainer.max_epochs,
            "max_steps": trainer.max_steps,
            "accumulate_grad_batches": trainer.accumulate_grad_batches,
            "gradient_clip_val": trainer.gradient_clip_val,
            "automatic_optimization": module.automatic_optimization,
        },
    }


def _company(trainer: Trainer) -> list[str]:
    """Return the names of the kit's callbacks that look at this run."""
    ours = [c for c in trainer.callbacks if hasattr(c, "gives_way")]  # type: ignore[attr-defined]
    return [type(callback).__name__ for callback in ours if not callback.gives_way(trainer)]


def _version() -> str:
    try:
        return metadata.version("lightning-debugkit")
    except metadata.PackageNotFoundError:
        return "unknown"


def _commit(module: LightningModule) -> tuple[str | None, bool | None]:
    """Return the commit of the module's project and whether tracked files differ from it, if git can tell."""
    # Late: a rank that is not the first has no use for it.
    from lightning_debugkit.provenance.capture.project_modules import main_file, project_root
    from lightning_debugkit.provenance.repository import git
    from lightning_debugkit.provenance.repository.status import look

    try:
        with git.open_repository(project_root(type(module), main_file()), _SECONDS) as repository:
            status = look(repository).status
            return status.commit, any(entry.status != "untracked" for entry in status.entries)
    except Exception:  # no git, no repository, no commit yet, foreign owner: each is a plain "unknown"
        return None, None
