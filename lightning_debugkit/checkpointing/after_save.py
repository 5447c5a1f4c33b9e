"""What is said once a save is through: findings, events for the report, attributes, and word to the loggers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import proxy

from lightning_debugkit.checkpointing import checkpoint_findings
from lightning_debugkit.checkpointing.keeper import Keeper, SaveOutcome
from lightning_debugkit.checkpointing.model_checkpoint_view import (
    ModelCheckpointView,
    model_checkpoint_view,
    show_to_loggers,
)
from lightning_debugkit.checkpointing.object_store import is_url
from lightning_debugkit.checkpointing.verification import mismatch
from lightning_debugkit.core.anomaly import TrainingAnomaly
from lightning_debugkit.core.compat import Trainer
from lightning_debugkit.core.finding import Finding, Severity
from lightning_debugkit.core.run import Run, current_run

if TYPE_CHECKING:
    from lightning_debugkit.checkpointing.callback import NestedCheckpoint
    from lightning_debugkit.checkpointing.session import CheckpointSession


class AfterSave:
    """Follows saves to their end. ``raise_after``: saves that may fail in a row before training is stopped."""

    def __init__(self, raise_after: int | None) -> None:
        self.raise_after = raise_after
        self.in_a_row = 0

    def settle(self, callback: NestedCheckpoint, trainer: Trainer, session: CheckpointSession, *, met: bool) -> None:
        """Tell what has become of saves; with ``met`` on every rank.

        Raises:
            TrainingAnomaly: Too many failed in a row.
            Exception: What failed in the kit itself on the first rank, once nobody waits for it.
        """
        outcomes = session.keeper.outcomes() if session.keeper is not None else []
        if not (met or outcomes):
            return
        now, stop = self._tell_all(callback, trainer, session, outcomes)
        fault, session.fault = session.fault, None
        if met:
            now, stop = trainer.strategy.broadcast((now, stop))
        if now is not None:
            show_to_loggers(callback, now)
        if met and stop is not None:
            run = current_run(trainer)
            raise TrainingAnomaly(stop, str(run.folder / "report.html") if run is not None else "")
        if any(outcome.record is not None and outcome.seconds for outcome in outcomes):
            for logger in trainer.loggers:
                logger.after_save_checkpoint(proxy(callback))
        if fault is not None:
            raise fault

    def _tell_all(
        self, callback: NestedCheckpoint, trainer: Trainer, session: CheckpointSession, outcomes: list[SaveOutcome]
    ) -> tuple[ModelCheckpointView | None, Finding | None]:
        """Return, on the first rank, where files stand, and what is to stop the training."""
        if session.keeper is None:
            return None, None
        stop = None
        try:
            for outcome in outcomes:
                stop = self._tell(callback, trainer, session, outcome) or stop
            return model_checkpoint_view(session.keeper.place, session.keeper.known, session.rules), stop
        except Exception as error:  # the others wait to be told
            session.fault = error
            return None, stop

    def _tell(
        self, callback: NestedCheckpoint, trainer: Trainer, session: CheckpointSession, outcome: SaveOutcome
    ) -> Finding | None:
        keeper = session.keeper
        assert keeper is not None
        where = callback.where(trainer)
        for record in outcome.dropped:
            callback.write(trainer, "measure", name="checkpoint-dropped", value=record.name)
        if outcome.gone:
            finding = checkpoint_findings.gone(where, outcome, session.folder)
            callback.emit(trainer, finding, about=f"gone from {outcome.away}: {finding.severity}")  # once is enough
            return None
        if outcome.away and outcome.error is not None:
            finding = checkpoint_findings.store_away(where, outcome, session.folder)
            callback.emit(trainer, finding, about=outcome.away)
            return None
        if outcome.error is not None:
            return self._failed(callback, trainer, session, outcome)
        if outcome.record is None:
            return None
        self.in_a_row, session.owed = 0, False
        callback.forget("checkpoint-failed")
        callback.write(trainer, "measure", name="checkpoint", value=_event(keeper, outcome))
        if outcome.seconds and outcome.free < outcome.record.size:
            callback.emit(
                trainer, checkpoint_findings.disk_low(where, outcome.free, outcome.record.size, session.folder)
            )
        return None

    def _failed(
        self, callback: NestedCheckpoint, trainer: Trainer, session: CheckpointSession, outcome: SaveOutcome
    ) -> Finding | None:
        self.in_a_row += 1
        session.owed = True
        enough = self.raise_after is not None and self.in_a_row >= self.raise_after
        finding = checkpoint_findings.failed_finding(
            callback.where(trainer), outcome, session.folder, self.in_a_row, Severity.ERROR if enough else None
        )
        callback.emit(trainer, finding)
        callback.write(
            trainer,
            "measure",
            name="checkpoint-failed",
            value={"step": outcome.draft.step, "error": checkpoint_findings.told_of_save(outcome.error)},
        )
        return finding if enough else None


def _event(keeper: Keeper, outcome: SaveOutcome) -> dict[str, object]:
    record = outcome.record
    assert record is not None
    return {
        "file": record.name,
        "step": record.step,
        "epoch": record.epoch,
        "metrics": dict(record.metrics),
        "bytes": record.size,
        "seconds": round(outcome.seconds, 4),
        "reasons": list(keeper.reasons.get(record.name, ())),
    }


def artifacts(keeper: Keeper, run: Run | None) -> Iterator[dict[str, object]]:
    """Return the events of the files that are there at the end, with why each is kept."""
    reasons = keeper.reasons
    for record in keeper.known:
        place = keeper.place(record)
        is_here = not is_url(place)
        yield {
            "name": "checkpoint",
            "path": os.path.relpath(place, run.folder) if run is not None and is_here else place,
            "step": record.step,
            "epoch": record.epoch,
            "file": record.name,
            "metrics": dict(record.metrics),
            "bytes": record.size,
            "reasons": list(reasons.get(record.name, ())),
            "fault": mismatch(Path(place), record) if is_here else "",
        }
