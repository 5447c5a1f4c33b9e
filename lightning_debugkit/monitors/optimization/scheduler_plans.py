"""What the learning-rate schedulers of a Trainer are planned to do."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from lightning_debugkit.core.compat import Trainer
from lightning_debugkit.monitors.optimization.learning_rate_schedule import SchedulePlan

# Where each scheduler of torch keeps the number of calls after which it is through.
_HORIZONS = {"CosineAnnealingLR": "T_max", "OneCycleLR": "total_steps", "PolynomialLR": "total_iters"}
_JUDGED = 20  # calls, of which fewer are a trial
_POINTS = 20  # of the run at which a function of the count is asked
_FAR = 100  # times the run, as far as is looked for the end of a warm-up


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
        if calls < 1 or not trainer.lightning_module.automatic_optimization:
            calls = math.inf  # how often is for the program to say: Lightning calls it never
        horizon, reacts = _horizon(config.scheduler, name), bool(config.reduce_on_plateau)
        plans.append(SchedulePlan(name, config.interval, calls, horizon, reacts, _warm_up(config.scheduler, calls)))
    return plans


def _horizon(scheduler: Any, name: str) -> float | None:
    found = getattr(scheduler, _HORIZONS[name], None) if name in _HORIZONS else None
    return float(found) if isinstance(found, int | float) and found > 0 else None


def _warm_up(scheduler: Any, calls: float) -> float | None:
    """Return the calls after which a rate that only rises at first is at its peak, ``None`` if there is no warm-up.

    Only what follows from plain numbers, or from a function of the count alone, is read; nothing is stepped.
    """
    try:
        name = type(scheduler).__name__
        if name == "SequentialLR" and scheduler._schedulers and scheduler._milestones:
            inner = _warm_up(scheduler._schedulers[0], math.inf)
            return None if inner is None else min(inner, float(scheduler._milestones[0]))
        if name == "LinearLR" and scheduler.end_factor > scheduler.start_factor:
            return float(scheduler.total_iters)
        if name == "OneCycleLR":
            return float(scheduler._schedule_phases[0]["end_step"])
        if name == "LambdaLR" and math.isfinite(calls):
            return _rising(scheduler.lr_lambdas[0], int(calls))
    except Exception:  # a scheduler of another make
        return None
    return None


def _rising(factor: Any, calls: int) -> float | None:
    """Return a number beyond ``calls`` where a function of the count still rises evenly at the run's last call."""
    if calls < _JUDGED:
        return None
    values = [float(factor(round(calls * i / _POINTS))) for i in range(_POINTS + 1)]
    if not all(after > before for before, after in pairwise(values)):
        return None
    end = calls
    while end < _FAR * calls and float(factor(end + max(1, calls // _POINTS))) > float(factor(end)):
        end += max(1, calls // _POINTS)
    return float(end) if end > calls else None
