"""When in a run a step is at its last moment, so that one decision a step sees all that belongs to it."""

from __future__ import annotations

import time

from lightning_debugkit.checkpointing.records import Moment
from lightning_debugkit.checkpointing.retention_rules import Every, KeepRule
from lightning_debugkit.core.compat import Trainer


def validation_follows(trainer: Trainer) -> bool:
    """Tell whether a validation comes right after this batch."""
    loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
    return fetcher is not None and bool(loop._should_check_val_fx(fetcher))


def is_last_batch(trainer: Trainer) -> bool:
    """Tell whether this batch is the last of its epoch."""
    return bool(trainer.fit_loop.epoch_loop.batch_progress.is_last_batch)


def is_stopping(trainer: Trainer) -> bool:
    """Tell whether training ends after this batch, whatever the epoch."""
    if 0 <= trainer.max_steps <= trainer.global_step:
        return True
    return bool(trainer.should_stop and trainer.fit_loop._can_stop_early)


def is_last_epoch(trainer: Trainer) -> bool:
    """Tell whether no epoch follows this one."""
    limit = trainer.max_epochs
    return is_stopping(trainer) or (limit is not None and 0 <= limit <= trainer.current_epoch + 1)


class Clock:
    """Time spent in training, of this fit and those it was resumed from.

    On several ranks only the first one's clock counts. The others ask for it at steps that are agreed on, ever nearer
    to the time that is due: so steps need no talk between ranks.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._before = seconds
        self._began = time.monotonic()
        self._ask_at = 0
        self._asked: tuple[int, float] | None = None

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._began

    def agreed(self, trainer: Trainer, step: int, *, always: bool) -> float | None:
        """Return the time that all ranks agree on, ``None`` if it is not asked for at this step."""
        if trainer.world_size == 1:
            return self.seconds
        return float(trainer.strategy.broadcast(self.seconds)) if always or step >= self._ask_at else None

    def ask_again(self, now: Moment, rules: tuple[KeepRule, ...]) -> None:
        """Plan the next step at which to ask: halfway to the time that is due next, at the pace seen so far."""
        hours = [rule for rule in rules if isinstance(rule, Every) and rule.hours is not None]
        left = min(((1 - rule.place(now) % 1) * 3600 * (rule.hours or 1) for rule in hours), default=0.0)
        pace = 0.0
        if self._asked is not None and now.seconds > self._asked[1]:
            pace = (now.step - self._asked[0]) / (now.seconds - self._asked[1])
        self._asked = (now.step, now.seconds)
        self._ask_at = now.step + max(1, int(left * pace / 2))
