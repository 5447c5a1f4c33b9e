"""All that is known when an analysis is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_debugkit.evaluation.error_analysis.collected_answers import CollectedAnswers
from lightning_debugkit.evaluation.error_analysis.confusion_history import ConfusionHistory
from lightning_debugkit.stats.confused_pairs import Merge, Pair
from lightning_debugkit.stats.intervals import Interval
from lightning_debugkit.stats.label_issues import LabelIssues
from lightning_debugkit.stats.weak_slices import WeakSlice


@dataclass(frozen=True)
class ErrorCase:
    """All that is judged."""

    found: CollectedAnswers
    names: Sequence[str]
    stage: str  # `validate` or `test`
    accuracy: Interval  # share of right answers
    pairs: Sequence[Pair]  # confusions, most first
    merges: Sequence[Merge]  # pairs whose merge raises kappa
    issues: LabelIssues | None  # labels that look wrong, `None` where probabilities are not known
    slices: Sequence[WeakSlice]  # parts of the data where mistakes gather
    history: ConfusionHistory
    is_over: bool  # whether training has come to its end, or a finished model is tested

    @property
    def unit(self) -> str:
        return self.found.form.unit
