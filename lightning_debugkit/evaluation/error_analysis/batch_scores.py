"""What a batch's answers are, whatever the task: the pairs to count, and how each sample fared."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_debugkit.stats.sample_records import SampleRecord

NONE = -1  # no class: left out of all counts


@dataclass(frozen=True)
class BatchScores:
    """The answers of a batch, on the device of the batch."""

    target: Tensor  # (n,) class of each sample; of a sample of many answers that of its worst one
    predicted: Tensor  # (n,) class that it was taken for, likewise
    wrong: Tensor  # (n,) wrong answers of each sample
    size: Tensor  # (n,) answers of each sample that count; 0 leaves the sample out
    loss: Tensor  # (n,) loss of each sample, nan where there is none
    confidence: Tensor  # (n,) probability of the predicted class, nan where it is not known
    given: Tensor  # (n,) probability of the target class, likewise
    broken: Tensor  # (n,) samples of which scores that count are not finite
    outside: Tensor  # (n,) answers whose target is no class of the model
    # target and predicted class of each answer, `NONE` where it does not count; `None` where each sample is one answer
    # and these are `target` and `predicted`
    pairs: tuple[Tensor, Tensor] | None = None
    seen: SampleRecord | None = None  # the likeliest classes of samples that are one answer each, `None` if not known
    # confidence and correctness of each answer, for the calibration of samples of many answers
    answers: tuple[Tensor, Tensor] | None = None


def blank_scores(like: Tensor) -> Tensor:
    """Return nan for each sample."""
    return torch.full((len(like),), torch.nan, device=like.device)
