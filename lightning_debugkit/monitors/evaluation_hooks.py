"""Hooks of validation and test of the detector: what breaks there is told as what breaks in training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lightning_debugkit.core.callback import DebugCallback
from lightning_debugkit.core.compat import LightningModule, Trainer, stage_of
from lightning_debugkit.core.finding import Finding
from lightning_debugkit.core.run import current_run
from lightning_debugkit.monitors.logged_metrics import LoggedMetrics
from lightning_debugkit.monitors.monitor import Monitor


class EvaluationHooks(DebugCallback):
    """A callback whose watches also see what the Trainer evaluates, within a fit and without."""

    watches: Monitor
    writes_on = ("validate", "test")
    _logged: LoggedMetrics

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tell(trainer, self.watches.loops.start_evaluation(trainer, pl_module, self.where(trainer)))

    on_test_start = on_validation_start

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        where, place = self.where(trainer), (batch_idx, dataloader_idx)
        self._tell(trainer, self.watches.loops.before_evaluation_batch(trainer, pl_module, where, batch, place))

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.watches.loops.evaluation.before_batch(batch, (batch_idx, dataloader_idx))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        place = batch_idx, dataloader_idx
        found = list(self.watches.loops.evaluated(trainer, pl_module, self.where(trainer), outputs, batch, place))
        with self.telling(trainer, pl_module, found):
            self._tell(trainer, found)

    on_test_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        found = list(self.watches.loops.end_evaluation(trainer, pl_module, self.where(trainer)))
        with self.telling(trainer, pl_module, found):
            self._tell(trainer, found)
        if trainer.state.fn != "fit":
            self._evaluation_over(trainer)

    on_test_end = on_validation_end

    def _evaluation_over(self, trainer: Trainer) -> None:
        """Keep what a test or validation by itself has logged; a report that is there is brought up to date."""
        run = current_run(trainer)
        if run is None or run.line:  # a short fit that is a line among others stays one
            return
        before = run.written
        self._logged.record(self, trainer, "evaluation")
        news = run.written != before
        if news:
            run.flush()  # the process may be over in a moment
        with self.ending(trainer, stage_of(trainer), now=news and run.rendered >= 0):
            pass

    def _tell(self, trainer: Trainer, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.emit(trainer, finding, about=str(finding.evidence.get("monitor", "")))
