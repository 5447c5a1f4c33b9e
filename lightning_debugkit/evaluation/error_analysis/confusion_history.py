"""How confusions come and go over the validations of a run, as plain types that survive a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_debugkit.evaluation.error_analysis.collected_answers import CollectedAnswers
from lightning_debugkit.stats.confused_pairs import most_confused
from lightning_debugkit.stats.intervals import wilson

_PAIRS = 10
_MOST = 500  # validations remembered; every second of the older ones goes when there are more
_SETTLED = 3
_NOTHING = -1  # what stands for nothing has another number when more classes are seen


class ConfusionHistory:
    """What each validation found, in short."""

    def __init__(self) -> None:
        self.moments: list[dict[str, Any]] = []

    def add(self, found: CollectedAnswers, epoch: int, step: int) -> None:
        """Remember a validation; another of the same step takes its place."""
        totals = found.totals
        if not totals.answers:
            return
        self.moments = [moment for moment in self.moments if moment["step"] != step]
        self.moments.append(
            {
                "epoch": epoch,
                "step": step,
                "n": totals.samples,
                "accuracy": 1 - totals.wrong / totals.answers,
                "pairs": [
                    [
                        *(_NOTHING if label == found.none else label for label in (pair.target, pair.predicted)),
                        pair.count,
                    ]
                    for pair in most_confused(found.confusion, most=_PAIRS)
                ],
                "unpredicted": [
                    label
                    for label, (support, predicted) in enumerate(
                        zip(found.confusion.support.tolist(), found.confusion.predicted_count.tolist(), strict=True)
                    )
                    if support and not predicted and label != found.none
                ][:_MOST],
            }
        )
        if len(self.moments) > _MOST:
            self.moments = [m for at, m in enumerate(self.moments) if at % 2 or at > _MOST // 2]

    @property
    def is_settled(self) -> bool:
        """Whether the model has stopped to learn: the later half of the validations brought nothing beyond chance."""
        if len(self.moments) < _SETTLED:
            return False
        middle, last = self.moments[(len(self.moments) - 1) // 2], self.moments[-1]
        n = last["n"]
        return bool(wilson(round(middle["accuracy"] * n), n).high >= last["accuracy"])

    def never_predicted(self, label: int) -> bool:
        """Tell whether no validation of the later half had a prediction of the class."""
        later = self.moments[len(self.moments) // 2 :]
        return all(label in moment["unpredicted"] for moment in later)

    def as_rows(self, none: int | None = None) -> list[dict[str, Any]]:
        """Return the validations as ``errors.json`` holds them; ``none`` is the number that nothing has there."""
        return [
            {
                **{key: moment[key] for key in ("epoch", "step", "accuracy")},
                "pairs": [
                    [*(none if label == _NOTHING else label for label in labels), count]
                    for *labels, count in moment["pairs"]
                ],
            }
            for moment in self.moments
        ]

    def state_dict(self) -> list[dict[str, Any]]:
        return [dict(moment) for moment in self.moments]

    def load_state_dict(self, held: Any) -> None:
        self.moments = [dict(moment) for moment in held or [] if isinstance(moment, Mapping)]
