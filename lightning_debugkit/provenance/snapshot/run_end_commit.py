"""Keep how a run ended as a second commit on its side reference."""

from __future__ import annotations

import contextlib
import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_debugkit.core.compat import ModelCheckpoint, Trainer, both_packages
from lightning_debugkit.core.journal import read_journal
from lightning_debugkit.core.optimizer_steps import steps_taken
from lightning_debugkit.provenance.repository.commit_tree import end_run
from lightning_debugkit.provenance.repository.git import Unavailable, open_repository
from lightning_debugkit.provenance.snapshot.snapshot_session import SnapshotSession, metrics_of


@dataclass(frozen=True)
class RunEnd:
    """How a run ended: ``finished``, ``stopped``, ``interrupted`` or ``exception``, and what that said."""

    status: str
    said: str = ""


def keep_outcome(
    session: SnapshotSession, trainer: Trainer, outcome: RunEnd, run_folder: Path, max_file: int, seconds: float
) -> None:
    """Add the commit of the end to the run's reference; without one, there is nothing to do."""
    manifest = session.taken.manifest
    kept = manifest["tree"]
    if not kept.get("present"):
        return
    name, value = _best(trainer)
    told = {
        "Debugkit-Outcome": " ".join(filter(None, (outcome.status, outcome.said)))[:300],
        "Debugkit-Step": str(steps_taken(trainer)),
        "Debugkit-Best": "" if value is None else f"{name} {value:.4g}",
        "Debugkit-Metrics": " ".join(f"{name}={value}" for name, value in sorted(metrics_of(trainer).items())),
        "Debugkit-Findings": _findings(run_folder),
        "Debugkit-Checkpoint": shlex.join(best_and_last(trainer)),
    }
    trailers = {name: " ".join(value.split()) for name, value in told.items() if value}
    with contextlib.suppress(Unavailable), open_repository(session.taken.root, seconds) as repository:
        known_as = manifest.data.get("note") or manifest.data.get("label") or manifest.id
        message = f"{outcome.status}: {' '.join(str(known_as).split())}"
        end_run(repository, manifest.id, str(kept["commit"]), message, trailers, max_file=max_file)


def summary_of(trainer: Trainer) -> dict[str, Any]:
    """Return what the experiment log tells of a run: its metrics, the best of the monitored one, its checkpoints."""
    name, value = _best(trainer)
    best = {} if value is None else {"best": {"name": name, "value": value}}
    return {"metrics": metrics_of(trainer), "checkpoints": best_and_last(trainer), **best}


def _best(trainer: Trainer) -> tuple[str, float | None]:
    for callback in trainer.checkpoint_callbacks:
        score = getattr(callback, "best_model_score", None)
        if isinstance(callback, both_packages(ModelCheckpoint)) and callback.monitor and score is not None:
            return callback.monitor, float(score)
    return "", None


def best_and_last(trainer: Trainer) -> list[str]:
    """Return the paths of the best and the last checkpoints of this run that are there."""
    found: list[str] = []
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, both_packages(ModelCheckpoint)):
            found += [path for path in (callback.best_model_path, callback.last_model_path) if path]
    return list(dict.fromkeys(path for path in found if Path(path).exists()))


def _findings(run_folder: Path) -> str:
    try:
        counted = Counter(str(finding.severity) for finding in read_journal(run_folder).findings)
    except OSError:
        return ""
    return " ".join(f"{name}={counted[name]}" for name in ("error", "warning", "info") if counted[name])
