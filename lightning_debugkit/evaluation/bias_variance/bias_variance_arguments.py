"""What `BiasVarianceReport` may be asked for, and what to say of what it may not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchmetrics import Metric

from lightning_debugkit.core.arguments import Needs, is_number, is_whole
from lightning_debugkit.core.compat import Trainer, callbacks_of
from lightning_debugkit.stats.intervals import Interval, exact, wilson

_NEEDS = Needs("BiasVarianceReport")
_PAIR = 2
_HIGHER = {"acc", "accuracy", "f1", "auc", "auroc", "ap", "map", "iou", "miou", "dice", "r2", "precision", "recall"}
_HIGHER |= {"psnr", "ssim", "bleu", "ndcg", "mrr", "kappa", "mcc", "jaccard"}
_LOWER = {"loss", "error", "err", "mae", "mse", "rmse", "nll", "ce", "bce", "perplexity", "ppl", "wer", "cer", "fid"}


def check_arguments(
    goal: Any, metric: Any, train_dev: Any, train_samples: Any, every_n_epochs: Any, trials: Any, interval: Any
) -> None:
    """Raise unless the goal is one of the metric, and something is left to measure."""
    _check_goal(goal)
    reached = goal_of(goal)
    if reached is not None and named_metric(goal, metric) == "error":
        value = reached.value
        _NEEDS.that("goal", 0 <= value < 1, "from 0 to 1 for the error", value, "0.01 is an error of 1 %")
    _NEEDS.that(
        "train_dev", is_number(train_dev) and 0 <= train_dev < 1, "from 0 to below 1", train_dev, "0.1 is usual"
    )
    _NEEDS.whole("train_samples", train_samples, 1, "10000 is a good start")
    if every_n_epochs != "auto":
        _NEEDS.whole("every_n_epochs", every_n_epochs, 1, "1 measures at each validation, 'auto' as cost allows")
    _NEEDS.whole("trials", trials, 1, "1 is a single run")
    _NEEDS.one_of("interval", interval, ("wilson", "exact"), "'wilson' is usual")


def _check_goal(goal: Any) -> None:
    """Raise unless ``goal`` is a number, a count of mistakes and samples, or one of these under a metric's name."""
    if isinstance(goal, Mapping):
        one = len(goal) == 1 and isinstance(next(iter(goal)), str)
        _NEEDS.that("goal", one, "to name one metric", goal, "write goal={'val_mae': 0.3}")
        _check_goal(next(iter(goal.values())))
    elif isinstance(goal, tuple | list):
        counts = len(goal) == _PAIR and all(map(is_whole, goal)) and 0 <= goal[0] <= goal[1] != 0
        _NEEDS.that("goal", counts, "as (mistakes, samples)", goal, "3 of 100 is goal=(3, 100)")
    else:
        _NEEDS.that("goal", goal is None or is_number(goal), "a finite number", goal, "0.01 is an error of 1 %")


def named_metric(goal: Any, metric: Any) -> str | Metric:
    """Return the metric that goal and metric ask for together; raises `ValueError` where they name two."""
    named = next(iter(goal)) if isinstance(goal, Mapping) else None
    if metric is not None and named is not None and metric != named:
        owner = _NEEDS.owner
        raise ValueError(f"{owner} needs goal and metric to name the same, got {named!r} and {metric!r}; drop metric.")
    found = named if metric is None else metric
    return "error" if found is None else found


def goal_of(goal: Any) -> Interval | None:
    """Return the goal with its bounds: a number is known, mistakes of a human on some samples are an estimate."""
    held = next(iter(goal.values())) if isinstance(goal, Mapping) else goal
    if held is None:
        return None
    return wilson(held[0], held[1]) if isinstance(held, tuple | list) else exact(float(held))


def direction(metric: str | Metric, maximize: bool | None, trainer: Trainer) -> tuple[bool, str]:
    """Return whether larger values are better, and a note where that was not certain.

    Asked in turn: the argument, the metric itself, a checkpoint or early stopping that monitors it, its name.
    """
    if maximize is not None:
        return maximize, ""
    if isinstance(metric, Metric):
        better = metric.higher_is_better
        if better is None:
            return False, f"Smaller is taken to be better for {type(metric).__name__}: say maximize=True if not."
        return bool(better), ""
    if metric == "error":
        return False, ""
    for callback in callbacks_of(trainer):
        if getattr(callback, "monitor", None) == metric and getattr(callback, "mode", None) in ("min", "max"):
            return bool(callback.mode == "max"), ""
    words = set(metric.lower().replace("/", "_").replace("-", "_").replace(".", "_").split("_"))
    if words & _HIGHER and not words & _LOWER:
        return True, ""
    note = "" if words & _LOWER else f"Smaller is taken to be better for {metric}: say maximize=True if not."
    return False, note


def ideal(metric: str | Metric, higher: bool) -> float | None:
    """Return the best value that the metric can have, if that is known."""
    if isinstance(metric, Metric):
        bound = metric.plot_upper_bound if higher else metric.plot_lower_bound
        return None if bound is None else float(bound)
    return 0.0 if metric == "error" else None
