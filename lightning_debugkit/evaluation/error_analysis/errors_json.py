"""From what was gathered to what is left: `errors.json`, the table of mistakes, the pictures, the findings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lightning_debugkit.core.atomic_files import write_bytes
from lightning_debugkit.core.finding import Finding, Where
from lightning_debugkit.core.journal import strict
from lightning_debugkit.evaluation.error_analysis.collected_answers import TOP, CollectedAnswers
from lightning_debugkit.evaluation.error_analysis.confusion_history import ConfusionHistory
from lightning_debugkit.evaluation.error_analysis.detection import NOTHING
from lightning_debugkit.evaluation.error_analysis.error_analysis_notes import error_analysis_notes
from lightning_debugkit.evaluation.error_analysis.error_analysis_rules import error_analysis_findings
from lightning_debugkit.evaluation.error_analysis.error_summary import (
    PAIRS,
    Samples,
    accuracy_of,
    bounds,
    class_row,
    overall_scores,
    pair_rows,
    picked,
)
from lightning_debugkit.evaluation.error_analysis.slice_columns import class_column, says_the_same
from lightning_debugkit.stats.categories import Category, coded
from lightning_debugkit.stats.class_merging import worth_of_merging
from lightning_debugkit.stats.class_order import confused_together
from lightning_debugkit.stats.confused_pairs import merge_candidates, most_confused
from lightning_debugkit.stats.confusion import DENSE
from lightning_debugkit.stats.label_issues import LabelIssues, label_issues
from lightning_debugkit.stats.per_class import per_class
from lightning_debugkit.stats.top_losses import TopLoss
from lightning_debugkit.stats.weak_slices import Scan, scan_slices

_ISSUES = 1_000
_JUDGED = 5_000  # pairs: of 1,000 classes there may be a million
_NOTHING = {"multilabel": "(no label)", "detection": "(background)"}


@dataclass(frozen=True)
class AnalysedAt:
    """The place of an analysis in the run."""

    stage: Literal["validate", "test"]  # `validate` or `test`
    epoch: int
    step: int
    names: list[str]
    # their labels in the whole dataset, where a `ClassSubset` was evaluated
    mapping: dict[str, list[Any]] = field(default_factory=dict)


@dataclass
class ErrorAnalysisResult:
    """One analysis of what was gathered; the costly parts are made once."""

    found: CollectedAnswers
    moment: AnalysedAt
    history: ConfusionHistory
    notes: Sequence[str]

    def __post_init__(self) -> None:
        found = self.found
        self.names = list(self.moment.names)
        if found.none is not None:
            self.names[found.none : found.none + 1] = [_NOTHING[found.form.task]]
        self.samples = Samples(found)
        self.accuracy = accuracy_of(found)
        self.issues = self._label_issues()
        self.scan = self._scan()
        self.pairs = most_confused(found.confusion, most=_JUDGED)
        of_one = found.none is None
        self.merges = merge_candidates(found.confusion) if of_one else []

    @property
    def unit(self) -> str:
        return self.found.form.unit

    def findings(self, where: Where, is_over: bool, file: str) -> Iterator[Finding]:
        """Yield what is beyond chance; of classes that are not learnt only when learning is over.

        Each names the ``file`` of the analysis that it is of.
        """
        for finding in error_analysis_findings(self, where, is_over):
            yield replace(finding, evidence={**finding.evidence, "analysis": file})

    def _label_issues(self) -> LabelIssues | None:
        records = self.found.records
        if records is None or not len(records) or self.found.confusion.classes < 2:
            return None
        return label_issues(records)

    def _scan(self) -> Scan:
        columns: dict[str, NDArray[Any] | Category] = dict(self.found.columns)
        table = self.found.table
        if not len(table["wrong"]):
            return Scan([], 0)
        if self.found.form.unit == "samples":
            columns = {n: held for n, held in self.found.columns.items() if not says_the_same(held, table["target"])}
            name = class_column(self.found.columns)
            columns[name] = coded(name, table["target"], self.names)
            wrong = table["wrong"] > 0
        else:
            # An image with more wrong pixels than usual.
            totals = self.found.totals
            wrong = table["wrong"] * totals.answers > totals.wrong * table["size"].astype(np.int64)
        return scan_slices(columns, wrong) if columns else Scan([], 0)

    def as_dict(self) -> dict[str, Any]:
        """Return what `errors.json` holds, without pictures."""
        found, totals = self.found, self.found.totals
        return {
            "classes": self.names,
            **({"class_mapping": self.moment.mapping} if self.moment.mapping else {}),
            "task": found.form.task,
            "stage": self.moment.stage,
            "epoch": self.moment.epoch,
            "step": self.moment.step,
            "unit": found.form.unit,
            "n": totals.answers,
            "samples_counted": totals.samples,
            "broken": totals.broken,
            "accuracy": bounds(self.accuracy),
            **overall_scores(found),
            "confusion": found.confusion.counts(),
            "most_confused": list(pair_rows(self.pairs[:PAIRS], self.samples, found.none)),
            "merge_candidates": [self._merge(merge) for merge in self.merges],
            "top_losses": list(self._top_losses()),
            "confident_mistakes": list(self._confident_mistakes()),
            **self._issues(),
            "per_class": [class_row(score) for score in per_class(found.confusion) if score.label != found.none],
            "calibration": self._calibration(),
            "weak_slices": [
                {**picked(part, "conditions", "n", "errors", "rate", "low", "high", "rest_rate"), "p": part.p_adjusted}
                for part in self.scan.slices
            ],
            "tested_slices": self.scan.tested,
            "dynamics": None,
            "history": self.history.as_rows(found.none) if self.moment.stage == "validate" else [],
            "notes": [*self.notes, *error_analysis_notes(found, self.issues)],
            "pictures": {},
            "samples": {},
            "order": self._order(),
        }

    def _merge(self, merge: Any) -> dict[str, Any]:
        names = ("first", "second", "count", "accuracy", "accuracy_merged", "kappa", "kappa_merged", "asymmetry")
        worth = worth_of_merging(self.found.confusion, merge.first, merge.second, self.found.totals.weight)
        return {
            **picked(merge, *names),
            **bounds(worth.rise, "rise", "rise_"),
            **bounds(worth.apart, "told_apart", "told_apart_"),
            "cannot_tell": self.samples.cannot_tell(merge.first, merge.second),
        }

    def _top_losses(self) -> Iterator[dict[str, Any]]:
        for top in self.found.top.sorted():
            target, predicted = (self.found.none if c == NOTHING else c for c in (top.target, top.predicted))
            yield {**asdict(top), "target": target, "predicted": predicted}

    def _confident_mistakes(self) -> Iterator[dict[str, Any]]:
        table, rows = self.found.table, self.samples.rows
        sure = table["confidence"][rows]
        rows = rows[np.argsort(-sure, kind="stable")][: TOP if not np.isnan(sure).all() else 0]
        keys = [field.name for field in fields(TopLoss)]
        columns = (table["given" if key == "probability" else key][rows].tolist() for key in keys)
        for values in zip(*columns, strict=True):
            yield dict(zip(keys, values, strict=True))

    def _issues(self) -> dict[str, Any]:
        issues = self.issues
        if issues is None:
            return {"label_issues": [], "label_issue_rate": None, "label_issue_classes": []}
        columns = (issues.indices, issues.labels, issues.suggested, issues.scores, issues.probability)
        keys = ("index", "label", "suggested", "score", "probability")
        rows = zip(*(column[:_ISSUES].tolist() for column in columns), strict=True)
        return {
            "label_issues": [dict(zip(keys, row, strict=True)) for row in rows],
            "label_issue_rate": bounds(issues.rate),
            "label_issue_classes": [
                {"class": one.label, "support": one.support, "issues": one.issues, **bounds(one.share, "share")}
                for one in issues.by_class
            ],
        }

    def _calibration(self) -> dict[str, Any]:
        calibration = self.found.calibration
        bins = calibration.reliability()
        if not bins:
            return {}
        ece = calibration.ece()
        return {
            "bins": [
                {**picked(one, "low", "high", "n", "confidence"), **bounds(one.accuracy, "accuracy", "accuracy_")}
                for one in bins
            ],
            **{"ece": ece.value, "ece_low": ece.low, "ece_high": ece.high},
        }

    def _order(self) -> list[int]:
        confusion = self.found.confusion
        if confusion.classes > DENSE:
            return list(range(confusion.classes))
        return confused_together(confusion.dense())

    def shown(self, held: dict[str, Any]) -> list[int]:
        """Return the samples to draw, the most telling first."""
        lists = [held[name] for name in ("top_losses", "label_issues", "confident_mistakes")]
        first = [row["index"] for rows, most in zip(lists, (TOP, 12, 12), strict=True) for row in rows[:most]]
        return [*first, *(index for pair in held["most_confused"] for index in pair["examples"][:3])]


def write_analysis(folder: Path, name: str, held: dict[str, Any]) -> None:
    """Write an analysis, or leave the one that is there."""
    text = json.dumps(strict(held), allow_nan=False, ensure_ascii=False)
    write_bytes(folder / name, text.encode("utf-8", "backslashreplace"))
