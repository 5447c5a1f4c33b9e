"""Callbacks and schedulers that follow a metric of a validation that this run never comes to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from lightning_debugkit.core.compat import Trainer, is_trial
from lightning_debugkit.core.finding import Finding, Where
from lightning_debugkit.core.name_lists import listed
from lightning_debugkit.core.shared_rules import MONITOR_MISSING
from lightning_debugkit.monitors.monitor_mode import followers

NEVER = "{names} {verb} {metric}, and no validation comes in this run to log it: {why}"
_EFFECTS = {"ModelCheckpoint": "ModelCheckpoint keeps no file for it.", "EarlyStopping": "EarlyStopping stops nothing."}


class UnmetMonitors:
    """Compare when the first validation is due with how long the run is planned to be."""

    def __init__(self) -> None:
        self._why, self._remedy = "", ""
        self._told: set[str] = set()

    def begin(self, where: Where, trainer: Trainer) -> Iterator[Finding]:
        """Yield the metrics named for a validation that are followed in vain: others may be logged in training."""
        if not is_trial(trainer):
            self._why, self._remedy = _never(trainer)
        yield from self._unmet(where, trainer, lambda metric: "val" in metric.lower())

    def conclude(self, where: Where, trainer: Trainer) -> Iterator[Finding]:
        """Yield the others, now that they were not logged."""
        yield from self._unmet(where, trainer, lambda metric: metric not in trainer.callback_metrics)

    def _unmet(self, where: Where, trainer: Trainer, is_unmet: Callable[[str], bool]) -> Iterator[Finding]:
        by_metric: dict[str, list[str]] = {}
        for follower, metric, _ in followers(trainer) if self._why else ():
            if is_unmet(metric) and metric not in self._told:
                by_metric.setdefault(metric, []).append(type(follower).__name__)
        for metric, names in by_metric.items():
            self._told.add(metric)
            effects = [told for name, told in _EFFECTS.items() if name in names]
            rule = replace(MONITOR_MISSING, says=NEVER, advice=" ".join([self._remedy, *effects]))
            verb = "follow" if len(names) > 1 else "follows"
            yield rule.found(where, names=listed(names), verb=verb, metric=metric, why=self._why)


def _never(trainer: Trainer) -> tuple[str, str]:
    """Return why no validation is due in a run from its begin, and what to do; empty if one is, or it is not known."""
    begun = trainer.current_epoch > 0 or trainer.ckpt_path is not None
    batches, every = trainer.num_training_batches, trainer.check_val_every_n_epoch
    if begun or not trainer.enable_validation or not trainer.val_check_batch:
        return "", ""
    first = float(trainer.val_check_batch) + ((every - 1) * batches if every is not None and every > 1 else 0)
    epochs = float(trainer.max_epochs) if trainer.max_epochs is not None and trainer.max_epochs >= 0 else math.inf
    planned = epochs * batches
    if trainer.max_steps >= 0:
        if not trainer.lightning_module.automatic_optimization:
            return "", ""  # how many batches a step takes is for the program to say
        planned = min(planned, float(trainer.max_steps * trainer.accumulate_grad_batches))
    if not math.isfinite(planned) or first <= planned:
        return "", ""
    if every is not None and every > epochs:
        told = f"check_val_every_n_epoch={every} is beyond its {epochs:.0f} epochs"
        return told, "Lower check_val_every_n_epoch, or let the run be longer."
    told = f"the first is due after {first:.0f} batches, and the run has {planned:.0f}"
    return told, "Lower val_check_interval or check_val_every_n_epoch, or let the run be longer."
