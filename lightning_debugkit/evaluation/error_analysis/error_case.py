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
    """All that is judged.

    Args:
        stage: ``validate`` or ``test``.
        accuracy: Share of right answers.
        pairs: Confusions, most first.
        merges: Pairs whose merge raises kappa.
        issues: Labels that look wrong, ``None`` where probabilities are not known.
        slices: Parts of the data where mistakes gather.
        is_over: Whether training has come to its end, or a finished model is tested.
    """

    found: CollectedAnswers
    names: Sequence[str]
    stage: str
    accuracy: Interval
    pairs: Sequence[Pair]
    merges: Sequence[Merge]
    issues: LabelIssues | None
    slices: Sequence[WeakSlice]
    history: ConfusionHistory
    is_over: bool

    @property
    def unit(self) -> str:
        return self.found.form.unit
