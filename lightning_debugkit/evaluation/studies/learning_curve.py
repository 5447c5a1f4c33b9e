"""Would more training data help? Train on ever larger parts, and see where the errors go."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Subset

from lightning_debugkit.evaluation.bias_variance import results
from lightning_debugkit.evaluation.bias_variance.units_of_error import Unit
from lightning_debugkit.evaluation.studies.study import (
    Fit,
    Study,
    higher_is_better,
    interval,
    last_errors,
    length_of_data,
    report_of,
)
from lightning_debugkit.stats.intervals import Interval
from lightning_debugkit.stats.power_law import PowerLaw, fit_power_law

_FRACTIONS = (0.1, 0.2, 0.4, 0.7, 1.0)
_LEAST_POINTS = 4


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Errors by the number of training samples.

    Args:
        sizes: Training samples of each fit.
        law: The power law of the validation error, ``None`` if there are too few points or it is no error.
        gain: What twice the training data would take off the validation error, ``None`` without a law.
    """

    sizes: tuple[int, ...]
    train: tuple[Interval, ...]
    val: tuple[Interval, ...]
    law: PowerLaw | None
    gain: Interval | None
    verdict: str


def learning_curve(
    fit: Fit,
    fractions: Sequence[float] = _FRACTIONS,
    *,
    train: Dataset[Any],
    val: Dataset[Any],
    repeats: int = 1,
    folder: str | os.PathLike[str] = "debugkit",
    seed: int = 0,
) -> LearningCurve:
    """Train on parts of the training data, each part within the next, and tell whether more would help.

    A power law with a floor is fitted to the validation errors (Hestness et al., 2017); what the points leave open is
    in its intervals. Each fit's result is kept in ``folder``: after an interruption the same call goes on.

    Args:
        fit: Builds a model and a Trainer with a `BiasVarianceReport`, trains the one on the first data set with the
            second as validation data, and returns the Trainer.
        fractions: Parts of the training data, each above 0 and at most 1.
        train: All training data.
        val: Validation data.
        repeats: Fits for each part, on other samples each.
        folder: Run folder whose report shows the curve.
        seed: Of the choice of samples.

    Raises:
        ValueError: A fraction or ``repeats`` is out of range.
        TypeError: ``fit`` returns something else.
    """
    asker = "learning_curve"
    if not fractions or not all(0 < fraction <= 1 for fraction in fractions):
        raise ValueError(f"{asker} needs fractions above 0 and at most 1, got {fractions!r}; (0.25, 0.5, 1) is one.")
    if repeats < 1:
        raise ValueError(f"{asker} needs repeats >= 1, got {repeats!r}; 1 is the least.")
    whole = length_of_data(train, asker, "train")
    sizes = {
        f"{fraction:g} of the data, fit {r}": round(fraction * whole) for fraction in fractions for r in range(repeats)
    }
    facts: dict[str, Any] = {}

    def run(name: str) -> dict[str, Any]:
        repeat = int(name.rpartition(" ")[2])
        order = np.random.default_rng([seed, repeat]).permutation(whole)[: sizes[name]]
        trainer = fit(Subset(train, sorted(order.tolist())), val)
        report = report_of(trainer, asker)
        metric = results.unit_of(report.looks.gauge.metric).metric
        facts.update(metric=metric, higher=higher_is_better(trainer, report))
        return {"n": sizes[name], "errors": last_errors(report), **facts}

    key = {"n": whole, "val": length_of_data(val, asker, "val"), "seed": seed}
    study = Study(folder, "learning-curve", key)
    rows = study.results(list(sizes), run)
    found = _curve(rows)
    study.tell(_shown(found, rows[-1]["metric"]))
    return found


def _curve(rows: Sequence[dict[str, Any]]) -> LearningCurve:
    rows = sorted((row for row in rows if "val" in row["errors"]), key=lambda row: row["n"])
    sizes = tuple(int(row["n"]) for row in rows)
    val = tuple(interval(row["errors"]["val"]) for row in rows)
    train = tuple(interval(row["errors"]["train"]) for row in rows if "train" in row["errors"])
    values = [error.value for error in val]
    law = gain = None
    fits = len(values) >= _LEAST_POINTS and len(set(sizes)) > 2 and all(value >= 0 for value in values)
    if fits and not rows[0]["higher"]:
        law = fit_power_law(sizes, values)
        gain = law.gain(max(sizes), 2 * max(sizes))
    return LearningCurve(sizes, train, val, law, gain, _verdict(sizes, val, gain, Unit(rows[0]["metric"])))


def _verdict(sizes: Sequence[int], val: Sequence[Interval], gain: Interval | None, unit: Unit) -> str:
    n, last = max(sizes), val[-1]
    if gain is None:
        return f"{unit.of('val')} is {unit.value(last.value)} with {n:,} samples; four sizes would make a curve"
    bounds = f"{unit.gap(gain.value)} ({unit.gap_between(gain)}) off the {unit.of('val')} of {unit.value(last.value)}"
    if gain.side == "above":
        return f"twice the {n:,} training samples would take {bounds}"
    return f"cannot tell whether more data help: twice the {n:,} training samples would take {bounds}"


def _shown(found: LearningCurve, metric: str) -> dict[str, Any]:
    unit = Unit(metric)
    pairs = zip(found.sizes, found.train or [None] * len(found.sizes), found.val, strict=False)
    rows = [
        [f"{n:,}", "" if low is None else unit.value(low.value), unit.value(high.value), unit.between(high)]
        for n, low, high in pairs
    ]
    curve = {"validation": [error.value for error in found.val]}
    if len(found.train) == len(found.sizes):
        curve["training"] = [error.value for error in found.train]
    note = "Each point is a model trained on that many samples."
    if found.law is not None:
        curve["power law"] = [found.law.at(n).value for n in found.sizes]
        floor = found.law.floor_interval
        note += (
            f" The law falls with the power {found.law.exponent:.2g} of the samples to a floor of "
            f"{unit.value(floor.value)} ({unit.between(floor)})."
        )
    return {
        "metric": metric,
        "verdict": found.verdict,
        "caption": "Errors by training samples",
        "header": ["training samples", "training", "validation", "95 % interval"],
        "rows": rows,
        "sizes": list(found.sizes),
        "curve": curve,
        "note": note,
    }
