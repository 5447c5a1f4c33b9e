"""A run that was stopped within an epoch, which Lightning counts as complete: recognised, and taken up again.

``max_steps``, a ``Timer``, `EarlyStopping` within an epoch and whatever else sets ``should_stop`` end the epoch as if
it were over. A checkpoint of its end, or of after the fit, then resumes in the next epoch, and the rest of this one is
never trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lightning_debugkit.checkpointing.resume.rng_state import RngState
from lightning_debugkit.checkpointing.save_times import validation_follows
from lightning_debugkit.core.compat import Trainer
from lightning_debugkit.core.patching import StandIn


def batches_of_stopped(checkpoint: Mapping[str, Any], in_epoch: float | None) -> int:
    """Return how many batches a run had used of the epoch in which it was stopped, 0 if the epoch was complete.

    Args:
        in_epoch: Batches of a whole epoch, if known.
    """
    fit = checkpoint.get("loops", {}).get("fit_loop", {})
    batches, epochs = fit.get("epoch_loop.batch_progress"), fit.get("epoch_progress")
    if not batches or not epochs or batches["is_last_batch"]:
        return 0
    used, current = batches["current"]["ready"], epochs["current"]
    is_over = 0 < current["ready"] == current["processed"]
    return int(used) if is_over and used != in_epoch else 0


def reopen_epoch(checkpoint: Mapping[str, Any]) -> None:
    """Let Lightning go on within the epoch in which the run was stopped: its batches and hooks count as not over."""
    for progress in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
        if progress["completed"] == progress["processed"]:
            progress["completed"] -= 1
        progress["processed"] -= 1


class StopWatch:
    """Keeps the random states of the end of the last batch of a run that is stopped within an epoch.

    What comes after it, a validation and the hooks of the epoch's end, the run that is not stopped does not have.
    """

    def __init__(self, trainer: Trainer, now: Callable[[], RngState | None]) -> None:
        self.trainer, self._now = trainer, now
        self._moment: RngState | None = None
        self._batch = -1
        self._standing: StandIn | None = None

    def install(self) -> None:
        """Look at the end of each batch whether the run is about to stop."""
        loop = self._loop
        end = loop.on_advance_end

        def ended(*args: Any) -> None:
            stops = self._stops()
            if stops and not validation_is_due(self.trainer):
                self._keep()
            end(*args)
            if (stops or self._stops()) and self._batch != loop.total_batch_idx:
                self._keep()

        self._standing = StandIn(loop, "on_advance_end", ended).stand()

    def remove(self) -> None:
        """Leave the loop as it was; what was kept may still be saved."""
        if self._standing is not None:
            self._standing.leave()
            self._standing = None

    def moment(self) -> RngState | None:
        """Return the moment at which this epoch's last batch ended, if the run was stopped there and then."""
        return self._moment if self._batch == self._loop.total_batch_idx else None

    @property
    def _loop(self) -> Any:
        return self.trainer.fit_loop.epoch_loop

    def _stops(self) -> bool:
        loop, trainer = self._loop, self.trainer
        by_hand = trainer.should_stop and trainer.fit_loop._can_stop_early
        return bool((by_hand or -1 < loop.max_steps <= loop.global_step) and not loop._num_ready_batches_reached())

    def _keep(self) -> None:
        self._moment, self._batch = self._now(), self._loop.total_batch_idx


def validation_is_due(trainer: Trainer) -> bool:
    """Tell whether a validation follows this batch, also in a run that is not asked to stop."""
    asked, trainer.should_stop = trainer.should_stop, False
    try:
        return validation_follows(trainer)
    finally:
        trainer.should_stop = asked
