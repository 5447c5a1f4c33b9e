"""The figures of an analysis, as `errors.json` holds them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_debugkit.evaluation.error_analysis.collected_answers import CollectedAnswers
from lightning_debugkit.stats.bootstrap import balanced_accuracy, bootstrap_groups, cohen_kappa
from lightning_debugkit.stats.intervals import Interval, wilson
from lightning_debugkit.stats.per_class import ClassScore

EXAMPLES = 6
PAIRS = 200
_PAIRS_SHOWN = 20
_EVEN = 2.0


def accuracy_of(found: CollectedAnswers) -> Interval:
    """Return the share of right answers.

    Answers of one sample are no independent ones: their interval is bootstrapped over samples, and where all samples
    are alike it is that of as many single answers.
    """
    totals = found.totals
    right, n = totals.answers - totals.wrong, totals.answers
    if found.form.unit == "samples" or not n:
        return wilson(right, n)
    value = right / n
    wrong, sizes = found.table["wrong"], found.table["size"]
    if totals.wrong in (0, n) or len(sizes) < 2:
        return replace(wilson(round(value * totals.samples), totals.samples), value=value, n=n)
    error = bootstrap_groups(wrong, sizes)
    if not error.low <= error.high:  # no two samples differ
        return replace(wilson(round(value * totals.samples), totals.samples), value=value, n=n)
    return Interval(value, 1 - error.high, 1 - error.low, n)


def overall_scores(found: CollectedAnswers) -> dict[str, float | None]:
    """Return balanced accuracy, kappa, and the accuracy of always saying the most frequent class."""
    confusion = found.confusion
    if found.form.task in ("multilabel", "detection") or not confusion.total:
        # An answer there is no one choice among the classes.
        return {"balanced_accuracy": None, "kappa": None, "baseline_accuracy": None}
    hits, support, predicted = (
        part.astype(np.float64) for part in (confusion.hits, confusion.support, confusion.predicted_count)
    )
    return {
        "balanced_accuracy": float(balanced_accuracy(hits, support, predicted)),
        "kappa": float(cohen_kappa(hits, support, predicted)),
        "baseline_accuracy": float(support.max() / support.sum()),
    }


def bounds(interval: Interval, name: str = "value", of: str = "") -> dict[str, float]:
    """Return an interval under a name, its bounds called after ``of``."""
    return {name: interval.value, f"{of}low": interval.low, f"{of}high": interval.high}


def class_row(score: ClassScore) -> dict[str, Any]:
    """Return what became of one class."""
    return {
        "class": score.label,
        "support": score.support,
        "predicted": score.predicted_count,
        **bounds(score.precision, "precision", "precision_"),
        **bounds(score.recall, "recall", "recall_"),
        **bounds(score.f1, "f1", "f1_"),
    }


class Samples:
    """The remembered samples that went wrong, by the pair of classes that they confuse, the worst first."""

    def __init__(self, found: CollectedAnswers) -> None:
        self.table = found.table
        wrong = np.flatnonzero(found.table["wrong"] > 0)
        loss = found.table["loss"][wrong]
        self.rows = wrong[np.argsort(-np.nan_to_num(loss, nan=-1.0), kind="stable")]
        self._codes = self._code(found.table["target"][self.rows], found.table["predicted"][self.rows])

    @staticmethod
    def _code(target: NDArray[Any], predicted: NDArray[Any]) -> NDArray[np.int64]:
        codes: NDArray[np.int64] = (target.astype(np.int64) << 32) + predicted
        return codes

    def of_pair(self, target: int, predicted: int) -> list[int]:
        """Return dataset indices of the worst samples of a pair."""
        code = (target << 32) + predicted
        rows = self.rows[self._codes == code]
        known = [index for index in self.table["index"][rows].tolist() if index >= 0]
        return known[:EXAMPLES]

    def cannot_tell(self, first: int, second: int) -> float | None:
        """Return of how many confusions of two classes the model gave the right one at least half as much."""
        codes = [(first << 32) + second, (second << 32) + first]
        rows = self.rows[np.isin(self._codes, codes)]
        given, confidence = self.table["given"][rows], self.table["confidence"][rows]
        if not len(rows) or np.isnan(given).any():
            return None
        return float((_EVEN * given >= confidence).mean())


def pair_rows(pairs: Any, samples: Samples, none: int | None) -> Iterator[dict[str, Any]]:
    """Yield the pairs of classes that are confused, the first ones with examples."""
    for at, pair in enumerate(pairs):
        shown = at < _PAIRS_SHOWN and none not in (pair.target, pair.predicted)
        examples = samples.of_pair(pair.target, pair.predicted) if shown else []
        names = ("target", "predicted", "count", "support", "share", "low", "high", "reverse", "lift")
        yield {**picked(pair, *names), "examples": examples}


def picked(thing: Any, *names: str) -> dict[str, Any]:
    """Return some attributes by name."""
    return {name: getattr(thing, name) for name in names}
