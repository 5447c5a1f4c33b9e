"""From what was measured to what is said: the case, its verdict, the file, the journal."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torchmetrics import Metric

from lightning_debugkit.core.atomic_files import write_bytes
from lightning_debugkit.core.compat import Trainer
from lightning_debugkit.core.journal import strict
from lightning_debugkit.evaluation.bias_variance import bias_variance_arguments
from lightning_debugkit.evaluation.bias_variance.advice import optimism
from lightning_debugkit.evaluation.bias_variance.bias_variance_rules import Conclusion
from lightning_debugkit.evaluation.bias_variance.error_history import ErrorHistory, classes_of, errors_of
from lightning_debugkit.evaluation.bias_variance.measured_case import SPLITS, BiasVarianceCase
from lightning_debugkit.evaluation.bias_variance.units_of_error import Unit
from lightning_debugkit.stats.intervals import Interval

if TYPE_CHECKING:
    from lightning_debugkit.evaluation.bias_variance.callback import BiasVarianceReport

FILE = "bias_variance.json"
_WORDS = ("acc", "error", "err")


def case_of(report: BiasVarianceReport, trainer: Trainer, moment: Mapping[str, Any] | None) -> BiasVarianceCase:
    """Return all that is known of the weights of a moment, and of the test."""
    memory, looks = report.memory, report.looks
    metric = looks.gauge.metric
    higher, note = bias_variance_arguments.direction(metric, report.maximize, trainer)
    held: dict[str, Any] = {"errors": {}, "classes": {}, "broken": {}}
    for source in (moment, memory.test):
        for name in held:
            held[name].update((source or {}).get(name, {}))
    return BiasVarianceCase(
        unit=unit_of(metric),
        errors=main_splits(errors_of(held)),
        goal=bias_variance_arguments.goal_of(report.goal),
        ideal=bias_variance_arguments.ideal(metric, higher),
        higher_is_better=higher,
        facts=report.facts,
        by_class=classes_of(held),
        broken=held["broken"],
        choices=choices_of(memory, moment, report.trials, higher),
        past=memory.past,
        running=memory.running,
        train_samples=report.facts.samples,
        notes=[*filter(None, [note, *looks.notes])],
    )


def unit_of(metric: str | Metric) -> Unit:
    """Return how a metric is called and written."""
    return Unit(type(metric).__name__ if isinstance(metric, Metric) else metric)


def subject(trainer: Trainer, memory: ErrorHistory) -> tuple[dict[str, Any] | None, str]:
    """Return the moment that a verdict speaks of, and its weights in words.

    They are those that were tested; else those of the best checkpoint; else the last that were validated.
    """
    if memory.test:
        moment = memory.of(memory.test["weights"])
        if moment is not None:
            return moment, f"the weights that were tested, of epoch {moment['epoch']}, step {moment['step']}"
        return None, "the weights that were tested, which are those of no validation of this run"
    checkpoint = getattr(trainer, "checkpoint_callback", None)
    path = str(getattr(checkpoint, "best_model_path", "") or "")
    if path and getattr(checkpoint, "monitor", None):
        moment = memory.at_step(_step_of(path))
        if moment is not None:
            return moment, f"the checkpoint {Path(path).name}, of epoch {moment['epoch']}, step {moment['step']}"
    with_val = [moment for moment in memory.moments if "val" in moment.get("errors", {})]
    for moment in (with_val or memory.moments)[-1:]:
        return moment, f"the last weights that were measured, of epoch {moment['epoch']}, step {moment['step']}"
    return None, "no weights: nothing was measured"


def _step_of(path: str) -> int:
    """Return the step at which a checkpoint was written, -1 if it does not tell."""
    try:
        held = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        return int(held["global_step"])
    except Exception:  # remote, of several files, or with foreign types inside
        return -1


def as_file(case: BiasVarianceCase, conclusion: Conclusion) -> dict[str, Any]:
    """Return what ``bias_variance.json`` holds; splits and gaps that are not known are not in it."""
    found: dict[str, Any] = strict(
        {
            "metric": case.unit.metric,
            "goal": None if case.goal is None else case.goal.value,
            "errors": {name: {**_bounds(error), "n": error.n} for name, error in case.errors.items()},
            "gaps": {name: _bounds(gap.interval) for name, gap in conclusion.gaps.items()},
            "verdict": conclusion.verdict,
            "next": conclusion.next,
        }
    )
    return found


def _bounds(interval: Any) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def as_measure(case: BiasVarianceCase, conclusion: Conclusion, speaks_of: str, memory: ErrorHistory) -> dict[str, Any]:
    """Return all that the report's section shows beyond the file."""
    rows = [
        {
            "name": name,
            "from": gap.frm,
            "to": gap.to,
            "text": f"{case.unit.gap(gap.value)} ({case.unit.gap_between(gap.interval)})",
            "side": case.side(gap),
        }
        for name, gap in conclusion.gaps.items()
    ]
    note = memory.note
    return {
        **as_file(case, conclusion),
        "is_rate": case.unit.is_rate,
        "higher_is_better": case.higher_is_better,
        "start": None if case.start is None else case.start.value,
        "speaks_of": speaks_of,
        "shown": {
            name: f"{case.unit.value(error.value)} ({case.unit.between(error)})" for name, error in case.errors.items()
        },
        "rows": rows,
        "notes": [*conclusion.notes, *([note] if note else [])],
        "choices": case.choices,
        "optimism": optimism(case),
    }


def write_file(folder: Path, held: Mapping[str, Any]) -> None:
    """Write the file."""
    write_bytes(folder / FILE, (json.dumps(held, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode())


def point(errors: Mapping[str, Interval], epoch: int) -> dict[str, Any]:
    """Return one point of the curves over the run."""
    return {"epoch": epoch, **{name: error.value for name, error in errors.items()}}


def running_metric(metrics: Mapping[str, Any], names: list[str]) -> tuple[str, float] | None:
    """Return the metric as Lightning logged it in training: under one of ``names``, else accuracy or error."""
    for name in names:
        if name in metrics:
            return name, float(metrics[name])
    for name, value in metrics.items():
        words = name.lower().replace("/", "_").split("_")
        if words[0] == "train" and any(word.startswith(_WORDS) for word in words[1:]) and "step" not in words:
            return name, float(value)
    return None


def choices_of(memory: ErrorHistory, moment: Mapping[str, Any] | None, trials: int, higher: bool) -> int:
    """Return how many models were compared on the validation data before this one was taken.

    Its own run counts by its validations if this was the best of them; other trials are told by the user.
    """
    values = [m["errors"]["val"][0] for m in memory.moments if "val" in m.get("errors", {})]
    values = [value for value in values if math.isfinite(value)]
    own = moment.get("errors", {}).get("val") if moment else None
    if own is None or not values:
        return trials
    is_best = own[0] == (max(values) if higher else min(values))
    return trials * (len(values) if is_best and len(values) > 1 and trials == 1 else 1)


def main_splits(errors: Mapping[str, Interval]) -> dict[str, Interval]:
    """Return the errors in the order of the decomposition, further loaders after them."""
    return {
        **{name: errors[name] for name in SPLITS if name in errors},
        **{name: error for name, error in errors.items() if name not in SPLITS},
    }
