"""Samples that are all but equal: a picture saved twice, a measurement with its rounding, one that was noised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.stats.close_pairs import ClosePairs, close_pairs

SIDE = 16  # pixels to which pictures are reduced: what is saved again differs in fine detail
SCALES = 4.0  # largest spread of a column against the median one, up to which all are of one scale
# Columns in which nine of ten rows have a number of their own are measurements.
UNIQUE = 0.9
KINDS = 1000  # rows among which that is asked
FEWEST = 3
SHARE = 0.01

NEAR_DUPLICATES = Rule(
    "near-duplicates",
    Severity.INFO,
    "{count} of {seen} {split} samples that were looked at are almost equal to {others}: {ratio:.1f} times closer "
    "to them than to others; chance would not make one such pair ({dimension:.0f} dimensions)",
    "{remedy}",
    on_data=True,
    section="data",
    cost="once",
)


def judge(train: Tensor, val: Tensor | None, is_table: bool, is_same: bool, where: Where) -> Iterator[Finding]:
    """Yield the near copies within training, and those of validation samples in training.

    Args:
        train: Training samples ``(n, d)``, as `thumbnails` returns them.
        val: Validation samples ``(k, d)``, ``None`` without.
        is_table: A sample is one row of columns.
        is_same: Both splits are one dataset, on purpose.
    """
    places, sizes = scale(train, is_table)
    if len(places) < 2:
        return
    own = train.index_select(1, places) / sizes
    found = close_pairs(own)
    if found is not None and _is_many(len(found.pairs), len(own)):
        remedy = "Drop one of each pair, or keep both on one side of every split."
        yield _found(where, found, len(own), "training", "others", remedy)
    if val is None or is_same or val.shape[1] != train.shape[1]:
        return
    asked = val.index_select(1, places) / sizes
    found = close_pairs(own, asked)
    if found is not None and _is_many(len(found.pairs), len(asked)):
        remedy = "Split by what they come from (a patient, a scene, a file), before anything is copied or augmented."
        yield _found(where, found, len(asked), "validation", "training samples", remedy, Severity.WARNING)


def is_large_picture(shape: Sequence[int]) -> bool:
    """Tell whether a sample of this shape is a picture of more than 16 pixels a side."""
    return len(shape) == 3 and shape[0] in (1, 3, 4) and min(shape[1:]) > SIDE


def thumbnails(values: Tensor) -> Tensor:
    """Return samples ``(n, ...)`` as rows ``(n, d)`` float32, pictures of more than 16 pixels a side grey and of 16."""
    if is_large_picture(values.shape[1:]):
        return adaptive_avg_pool2d(values.float().mean(1, keepdim=True), SIDE).flatten(1)
    return values.reshape(len(values), -1).float()


def scale(train: Tensor, is_table: bool) -> tuple[Tensor, Tensor]:
    """Return which columns of ``(n, d)`` can be compared, ``(k,)`` places, and what each is divided by, ``(k,)``.

    In a table rows are equal in columns of few values by chance: where others hold measurements, these alone count.
    """
    spread = train.std(0)
    kept = spread > 0
    if is_table:
        first = train[:KINDS]
        measured = torch.from_numpy(kinds_of(first) >= UNIQUE * len(first))
        kept &= measured if measured.any() else True
    places = kept.nonzero()[:, 0]
    spread = spread[places]
    # Pixels, in a row or not, are of one scale already; columns of a table are not.
    is_one_scale = not is_table or not len(places) or float(spread.max()) <= SCALES * float(spread.median())
    return places, torch.ones_like(spread) if is_one_scale else spread


def kinds_of(rows: Tensor) -> NDArray[np.int64]:
    """Return how many different numbers each column of ``(n, d)`` holds; NumPy sorts them several times faster.

    >>> kinds_of(torch.tensor([[1.0, 2.0], [1.0, 3.0]])).tolist()
    [1, 2]
    """
    columns = np.sort(np.ascontiguousarray(rows.numpy().T), axis=1)
    kinds: NDArray[np.int64] = (columns[:, 1:] != columns[:, :-1]).sum(1) + 1
    return kinds


def _is_many(count: int, seen: int) -> bool:
    return count >= FEWEST and count >= SHARE * seen


def _found(
    where: Where, found: ClosePairs, seen: int, split: str, others: str, remedy: str, severity: Severity | None = None
) -> Finding:
    return NEAR_DUPLICATES.found(
        where, severity=severity, count=len(found.pairs), seen=seen, split=split, others=others, remedy=remedy,
        ratio=found.ratio, dimension=found.dimension, pairs=found.pairs[:3].tolist(),
    )  # fmt: skip
