"""What `BiasVarianceReport` may be asked for, and what to say of what it may not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torchmetrics import Metric

from lightning_debugkit.evaluation.bias_variance.error_history import is_number
from lightning_debugkit.evaluation.predictions import sources
from lightning_debugkit.stats.intervals import Interval, exact, wilson

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

_OWNER = "BiasVarianceReport"
_PAIR = 2
_HIGHER = {"acc", "accuracy", "f1", "auc", "auroc", "ap", "map", "iou", "miou", "dice", "r2", "precision", "recall"}
_HIGHER |= {"psnr", "ssim", "bleu", "ndcg", "mrr", "kappa", "mcc", "jaccard"}
_LOWER = {"loss", "error", "err", "mae", "mse", "rmse", "nll", "ce", "bce", "perplexity", "ppl", "wer", "cer", "fid"}


def check_bias_variance(name: str, holds: bool, rule: str, value: Any, advice: str) -> None:
    """Raise the house's sentence unless ``holds``."""
    if not holds:
        raise ValueError(f"{_OWNER} needs {name} {rule}, got {value!r}; {advice}.")


def check_numbers(train_dev: Any, train_samples: Any, every_n_epochs: Any, trials: Any) -> None:
    """Raise unless the numbers are such that something is left to measure."""
    check_bias_variance(
        "train_dev", is_number(train_dev) and 0 <= train_dev < 1, "from 0 to below 1", train_dev, "0.1 is usual"
    )
    for name, value, advice in (
        ("train_samples", train_samples, "10000 is a good start"),
        ("every_n_epochs", every_n_epochs, "1 measures at each validation, 'auto' as cost allows"),
        ("trials", trials, "1 is a single run"),
    ):
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        check_bias_variance(name, whole or (name == "every_n_epochs" and value == "auto"), ">= 1", value, advice)


def check_choices(interval: Any, on_missing: Any) -> None:
    """Raise unless both are among what there is."""
    check_bias_variance(
        "interval", interval in ("wilson", "exact"), "'wilson' or 'exact'", interval, "'wilson' is usual"
    )
    check_bias_variance(
        "on_missing", on_missing in ("raise", "warn"), "'raise' or 'warn'", on_missing, "'raise' says it at once"
    )


def check_goal(goal: Any) -> None:
    """Raise unless ``goal`` is a number, a count of mistakes and samples, or one of these under a metric's name."""
    if isinstance(goal, Mapping):
        one = len(goal) == 1 and isinstance(next(iter(goal)), str)
        check_bias_variance("goal", one, "to name one metric", goal, "write goal={'val_mae': 0.3}")
        check_goal(next(iter(goal.values())))
    elif isinstance(goal, tuple | list):
        whole = len(goal) == _PAIR and all(isinstance(part, int) and not isinstance(part, bool) for part in goal)
        check_bias_variance(
            "goal", whole and 0 <= goal[0] <= goal[1] != 0, "as (mistakes, samples)", goal, "3 of 100 is goal=(3, 100)"
        )
    else:
        check_bias_variance("goal", goal is None or is_number(goal), "a finite number", goal, "0.01 is an error of 1 %")


def named_metric(goal: Any, metric: Any) -> str | Metric:
    """Return the metric that goal and metric ask for together.

    Raises:
        ValueError: They name two.
    """
    named = next(iter(goal)) if isinstance(goal, Mapping) else None
    if metric is not None and named is not None and metric != named:
        raise ValueError(f"{_OWNER} needs goal and metric to name the same, got {named!r} and {metric!r}; drop metric.")
    found = named if metric is None else metric
    return "error" if found is None else found


def goal_of(goal: Any) -> Interval | None:
    """Return the goal with its bounds: a number is known, mistakes of a human on some samples are an estimate."""
    held = next(iter(goal.values())) if isinstance(goal, Mapping) else goal
    if held is None:
        return None
    return wilson(held[0], held[1]) if isinstance(held, tuple | list) else exact(float(held))


def check_goal_fits(goal: Interval | None, metric: str | Metric) -> None:
    """Raise where an error rate is asked to be what no rate is."""
    if goal is not None and metric == "error":
        value = goal.value
        check_bias_variance("goal", 0 <= value < 1, "from 0 to 1 for the error", value, "0.01 is an error of 1 %")


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
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
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


def check_adapter(adapter: Any) -> None:
    """Raise unless ``adapter`` is a function or the dotted path of one."""
    known = adapter is None or callable(adapter)
    if isinstance(adapter, str):
        try:
            known = callable(sources.resolve(adapter))
        except ValueError:
            known = False
    rule = "to be a function or its dotted path"
    check_bias_variance(
        "adapter", known, rule, adapter, "it gets outputs and batch, and returns predictions and targets"
    )
