"""Sums of a pass, and what an answer weighs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Totals:
    """Sums over all samples, also over those that are too many to be remembered.

    Args:
        samples: Samples that count.
        answers: Answers that count: one a sample, or its pixels, labels or boxes.
        wrong: Of these, the wrong ones.
        broken: Samples whose scores are not finite.
        outside: Answers whose target is no class of the model.
    """

    samples: int = 0
    answers: int = 0
    wrong: int = 0
    broken: int = 0
    outside: int = 0

    @property
    def weight(self) -> float:
        """Weight of an answer: those of one sample go together, and weigh as much as it."""
        return self.samples / self.answers

    def add(self, other: Totals) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
