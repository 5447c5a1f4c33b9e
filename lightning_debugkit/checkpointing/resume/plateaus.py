"""Schedulers that wait for a metric, as ``ReduceLROnPlateau`` does: Lightning leaves out a step of theirs on a resume.

A save at the end of an epoch is made before they are stepped, and that step is not made up for. At the end of an epoch
that was resumed within, they are not stepped either, since the metric may be gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lightning_debugkit.checkpointing.resume import inexact_causes
from lightning_debugkit.checkpointing.resume.inexact_causes import InexactCause
from lightning_debugkit.core.compat import LightningModule, Trainer


def waiting(trainer: Trainer, module: LightningModule, *, in_batch_end: bool) -> list[dict[str, Any]]:
    """Return the schedulers that wait for a metric and are stepped only after this save, with the metric if known."""
    loop = trainer.fit_loop.epoch_loop
    epochs: Any = trainer.fit_loop.epoch_progress.current
    ended = epochs.completed < epochs.processed
    due = {
        "epoch": loop._num_ready_batches_reached() and (ended or epochs.processed < epochs.started),
        "step": not loop._should_accumulate() and (in_batch_end or trainer.validating),
    }
    found = []
    for index, config in enumerate(trainer.lr_scheduler_configs if module.automatic_optimization else []):
        count = (trainer.current_epoch if config.interval == "epoch" else trainer.fit_loop.batch_idx) + 1
        if config.reduce_on_plateau and due.get(config.interval) and count % config.frequency == 0:
            # Only when the epoch has ended all of its metrics are there.
            metric = trainer.callback_metrics.get(config.monitor or "") if ended else None
            metric = None if metric is None else metric.detach().cpu().clone()
            found.append({"index": index, "metric": metric, "scheduler": type(config.scheduler).__name__})
    return found


def step_waiting(
    trainer: Trainer, module: LightningModule, saved: Iterable[Mapping[str, Any]]
) -> Iterable[InexactCause]:
    """Step the schedulers that waited when the checkpoint was saved, as the saved run did next; tell of the others."""
    configs = trainer.lr_scheduler_configs
    for each in saved:
        if each["metric"] is None or each["index"] >= len(configs):
            yield inexact_causes.PLATEAU.filled(scheduler=each["scheduler"])
        else:
            module.lr_scheduler_step(configs[each["index"]].scheduler, each["metric"])


def let_step(trainer: Trainer, module: LightningModule) -> list[InexactCause]:
    """Have Lightning step them at the end of an epoch that was resumed within; tell of those whose metric is gone."""
    fit = trainer.fit_loop
    if not fit.restarting:
        return []
    missing = [each for each in waiting(trainer, module, in_batch_end=False) if each["metric"] is None]
    if not missing:
        fit._restarting = False  # of this epoch, it is only asked for these schedulers by now
    return [inexact_causes.PLATEAU.filled(scheduler=each["scheduler"]) for each in missing[:1]]
