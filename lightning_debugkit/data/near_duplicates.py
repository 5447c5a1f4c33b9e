"""Samples that are all but equal: a picture saved twice, a measurement with its rounding, one that was noised."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.stats.close_pairs import ClosePairs, close_pairs

SAMPLES = 1000  # of each split
SIDE = 16  # pixels to which pictures are reduced: what is saved again differs in fine detail
SCALES = 4.0  # largest spread of a column against the median one, up to which all are of one scale
FEWEST = 3
SHARE = 0.01

NEAR_DUPLICATES = Rule(
    "near-duplicates",
    Severity.INFO,
    "{count} of {seen} {split} samples that were looked at are all but equal to {others}: {ratio:.1f} times closer to "
    "them than to others, as chance does not make one pair ({dimension:.0f} dimensions)",
    "{remedy}",
    on_data=True,
    section="data",
    cost="once",
)


def judge(train: Tensor, val: Tensor | None, shape: tuple[int, ...], is_same: bool, where: Where) -> Iterator[Finding]:
    """Yield the near copies within training, and those of validation samples in training.

    Args:
        train: Training samples ``(n, d)``.
        val: Validation samples ``(k, d)``, ``None`` without.
        shape: Of one sample.
        is_same: Both splits are one dataset, on purpose.
        where: Place of now.
    """
    own = reduced(train[:SAMPLES], shape, train)
    if own.shape[1] < 2:
        return
    found = close_pairs(own)
    if found is not None and _is_many(len(found.pairs), len(own)):
        remedy = "Drop one of each pair, or keep both on one side of every split."
        yield _found(where, found, len(own), "training", "others", remedy)
    if val is None or is_same or val.shape[1] != train.shape[1]:
        return
    asked = reduced(val[:SAMPLES], shape, train)
    found = close_pairs(own, asked)
    if found is not None and _is_many(len(found.pairs), len(asked)):
        remedy = "Split by what they come from (a patient, a scene, a file), before anything is copied or augmented."
        yield _found(where, found, len(asked), "validation", "training samples", remedy, Severity.WARNING)


def reduced(samples: Tensor, shape: tuple[int, ...], train: Tensor) -> Tensor:
    """Return samples ``(n, d)``: pictures of more than 16 pixels a side as grey ones of that, columns on one scale."""
    if len(shape) == 3 and shape[0] in (1, 3, 4) and min(shape[1:]) > SIDE:
        return adaptive_avg_pool2d(samples.reshape(-1, *shape).mean(1, keepdim=True), SIDE).flatten(1)
    spread = train.std(0)
    kept = spread > 0
    # Pixels, in a row or not, are of one scale already; columns of a table are not.
    is_one_scale = len(shape) > 1 or float(spread.max()) <= SCALES * float(spread[kept].median())
    return samples[:, kept] / (1 if is_one_scale else spread[kept])


def _is_many(count: int, seen: int) -> bool:
    return count >= FEWEST and count >= SHARE * seen


def _found(
    where: Where, found: ClosePairs, seen: int, split: str, others: str, remedy: str, severity: Severity | None = None
) -> Finding:
    return NEAR_DUPLICATES.found(
        where, severity=severity, count=len(found.pairs), seen=seen, split=split, others=others, remedy=remedy,
        ratio=found.ratio, dimension=found.dimension, pairs=found.pairs[:3].tolist(),
    )  # fmt: skip
