"""Every sample that went wrong, as a table to sort and to go through by hand."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from lightning_debugkit.evaluation.error_analysis.answers import CollectedAnswers
from lightning_debugkit.evaluation.error_analysis.error_summary import Samples

MOST = 100_000
_WHOLE = 2.0**53
_HEADER = ("index", "target", "target_name", "predicted", "predicted_name", "loss", "probability", "confidence")


def write_misclassified(path: Path, found: CollectedAnswers, samples: Samples, names: list[str]) -> None:
    """Write the samples that are wrong, the largest loss first."""
    table, rows = found.table, samples.rows[:MOST]
    own = [table[name][rows].tolist() for name in ("index", "target", "predicted", "loss", "given", "confidence")]
    counts = [table[name][rows].tolist() for name in ("wrong", "size")]
    more = {name: values[rows].tolist() for name, values in found.columns.items()}
    many = found.form.unit != "samples"
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow([*_HEADER, *(("wrong", "answers") if many else ()), *more])
        for index, target, predicted, loss, given, confidence, *rest in zip(
            *own, *(counts if many else ()), *more.values(), strict=True
        ):
            place = index if index >= 0 else ""
            pair = (target, _name(names, target), predicted, _name(names, predicted))
            writer.writerow([place, *pair, *map(_plain, (loss, given, confidence)), *map(_plain, rest)])


def _name(names: list[str], number: int) -> str:
    return names[number] if 0 <= number < len(names) else ""


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        if value.is_integer() and abs(value) < _WHOLE:
            return f"{value:.0f}"
        return "" if math.isnan(value) else f"{value:.6g}"
    return value
