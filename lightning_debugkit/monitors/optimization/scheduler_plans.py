"""What the learning-rate schedulers of a Trainer are planned to do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lightning_debugkit.monitors.optimization.learning_rate_schedule import SchedulePlan

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

# Where each scheduler of torch keeps the number of calls after which it is through.
_HORIZONS = {"CosineAnnealingLR": "T_max", "OneCycleLR": "total_steps", "PolynomialLR": "total_iters"}


def plans_of(trainer: Trainer, total: float) -> list[SchedulePlan]:
    """Return the schedulers of ``trainer`` and how often this run will call each.

    Args:
        trainer: With its schedulers set up.
        total: Optimizer steps planned.
    """
    plans = []
    for config in trainer.lr_scheduler_configs:
        name = type(config.scheduler).__name__
        epochs = float(trainer.max_epochs) if trainer.max_epochs and trainer.max_epochs > 0 else math.inf
        if trainer.max_steps > 0 and math.isfinite(total):
            batches = trainer.num_training_batches or 1
            epochs = min(epochs, math.ceil(total * trainer.accumulate_grad_batches / batches))
        calls = (total if config.interval == "step" else epochs) / (config.frequency or 1)
        plans.append(
            SchedulePlan(name, config.interval, calls, _horizon(config.scheduler, name), bool(config.reduce_on_plateau))
        )
    return plans


def _horizon(scheduler: Any, name: str) -> float | None:
    found = getattr(scheduler, _HORIZONS[name], None) if name in _HORIZONS else None
    return float(found) if isinstance(found, int | float) and found > 0 else None
