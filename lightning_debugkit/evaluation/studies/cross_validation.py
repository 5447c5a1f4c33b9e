"""How much of a result hangs on the split: train k times, each time with another part held out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset, Subset

from lightning_debugkit.evaluation.bias_variance import results
from lightning_debugkit.evaluation.bias_variance.bias_variance_rules import conclude
from lightning_debugkit.evaluation.bias_variance.units_of_error import Unit
from lightning_debugkit.evaluation.studies.study import Fit, Study, interval, last_errors, length_of_data, report_of
from lightning_debugkit.stats.folds import across_folds, stratified_folds
from lightning_debugkit.stats.intervals import Interval


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """What k folds gave.

    Args:
        mean: Mean validation error with its interval, which knows that folds share training samples.
        spread: Standard deviation between folds.
        folds: Training and validation error of each fold, by split.
        verdicts: What limits the model of each fold.
    """

    mean: Interval
    spread: float
    folds: tuple[dict[str, Interval], ...]
    verdicts: tuple[str, ...]
    verdict: str


def cross_validate(
    fit: Fit,
    k: int = 5,
    *,
    data: Dataset[Any],
    labels: Sequence[Any] | None = None,
    folder: str | os.PathLike[str] = "debugkit",
    seed: int = 0,
) -> CrossValidation:
    """Train ``k`` times, each time validated on another part of the data, classes spread evenly.

    The interval of the mean is Nadeau and Bengio's (2003). Each fold's result is kept in ``folder``: after an
    interruption the same call goes on.

    Args:
        fit: Builds a model and a Trainer with a `BiasVarianceReport`, trains the one on the first data set with the
            second as validation data, and returns the Trainer.
        k: Folds.
        data: All data but the test data.
        labels: Class of each sample; by default read off the data, and folds are plain where there are no classes.
        folder: Run folder whose report shows the folds.
        seed: Of the split.

    Raises:
        ValueError: ``k`` is out of range.
        TypeError: ``fit`` returns something else.
    """
    asker = "cross_validate"
    n = length_of_data(data, asker, "data")
    if not 2 <= k <= n:
        raise ValueError(f"{asker} needs k from 2 to {n}, the samples there are, got {k!r}; 5 is usual.")
    classes = classes_of_data(data) if labels is None else list(labels)
    if len(classes) != n:
        raise ValueError(f"{asker} needs a label for each of {n} samples, got {len(classes)}; leave labels out.")
    held = stratified_folds(classes, k, seed)

    def run(name: str) -> dict[str, Any]:
        val = held[int(name.rpartition(" ")[2])]
        train = np.setdiff1d(np.arange(n), val)
        trainer = fit(Subset(data, train.tolist()), Subset(data, val.tolist()))
        report = report_of(trainer, asker)
        case = results.case_of(report, trainer, report.memory.moments[-1])
        return {"errors": last_errors(report), "verdict": conclude(case).verdict, "metric": case.unit.metric}

    study = Study(folder, "cross-validation", {"n": n, "k": k, "seed": seed, "labels": [str(c) for c in classes]})
    rows = study.results([f"fold {fold}" for fold in range(k)], run)
    found = _together(rows, k)
    study.tell(_shown(found, rows, Unit(rows[0]["metric"])))
    return found


def classes_of_data(data: Any) -> list[Any]:
    """Return the class of each sample: of ``targets`` or ``labels``, else of its second entry or its known names.

    A data set without classes has the same label for all.
    """
    for name in ("targets", "labels"):
        held = getattr(data, name, None)
        if held is not None and len(held) == len(data):
            return [_plain(label) for label in held]
    found = [_label(data[at]) for at in range(len(data))]
    return found if all(isinstance(label, int | str) for label in found) else [0] * len(data)


def _label(sample: Any) -> Any:
    if isinstance(sample, dict):
        return _plain(next((sample[name] for name in ("label", "target", "labels", "y") if name in sample), None))
    return _plain(sample[1]) if isinstance(sample, tuple | list) and len(sample) > 1 else None


def _plain(label: Any) -> Any:
    if isinstance(label, Tensor | np.ndarray | np.generic):
        return label.item() if getattr(label, "ndim", 0) == 0 else None
    return label


def _together(rows: Sequence[dict[str, Any]], k: int) -> CrossValidation:
    unit = Unit(rows[0]["metric"])
    folds = tuple({name: interval(held) for name, held in row["errors"].items()} for row in rows)
    values = [fold["val"].value for fold in folds]
    mean = across_folds(values, test_over_train=1 / (k - 1))
    spread = float(np.std(values, ddof=1))
    said = (
        f"{unit.of('val')} is {unit.value(mean.value)} ({unit.between(mean)}) over {k} folds, "
        f"which differ by {unit.gap(spread)} (standard deviation)"
    )
    return CrossValidation(mean, spread, folds, tuple(str(row["verdict"]) for row in rows), said)


def _shown(found: CrossValidation, rows: Sequence[dict[str, Any]], unit: Unit) -> dict[str, Any]:
    table = [
        [
            row["run"],
            unit.value(fold["train"].value) if "train" in fold else "",
            f"{unit.value(fold['val'].value)} ({unit.between(fold['val'])})",
            verdict.partition(":")[0],
        ]
        for row, fold, verdict in zip(rows, found.folds, found.verdicts, strict=True)
    ]
    header = ["fold", "training", "validation", "verdict"]
    return {"metric": unit.metric, "verdict": found.verdict, "caption": "Folds", "header": header, "rows": table}
