"""Whether a model is right as often as it says it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from lightning_debugkit.stats.arrays import Floats, Integers, floats, integers
from lightning_debugkit.stats.intervals import Interval, bare_interval, student_reach, wilson
from lightning_debugkit.stats.row_buffer import Block, RowBuffer

# Sums are of whole multiples of this: exact, so that neither ranks nor the order of batches change them.
_UNIT = 1 << 30
_DRAWS = 2_000
_LEAST = 1e-12
_TAIL = 0.025  # beyond either end of a 95 % interval


@dataclass(frozen=True)
class Bin:
    """Samples of about one confidence."""

    low: float  # lower bound of the confidence, left out
    high: float  # upper bound, included
    n: int
    confidence: float  # mean of them
    accuracy: Interval  # share of them that is right, with Wilson's interval


class Calibration:
    """Confidence and correctness, summed in bins of equal width.

    Samples whose confidence is not a number between 0 and 1 are left out and counted in ``broken``.

    >>> calibration = Calibration(bins=2)
    >>> calibration.update(torch.tensor([0.9, 0.9, 0.3]), torch.tensor([True, False, False]))
    >>> calibration.ece().value  # (2 * |0.5 - 0.9| + 1 * |0 - 0.3|) / 3
    0.3667

    References:
        Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, 2017, equation 3.
    """

    def __init__(self, bins: int = 15) -> None:
        if bins < 1:
            raise ValueError(f"Calibration needs bins >= 1, got {bins!r}; 15 are usual.")
        self.bins = bins
        self._buffer = RowBuffer((torch.float32, torch.bool))
        # Samples, right ones, confidence, squared difference of the two; in the last column what is broken.
        self._sums = torch.zeros(4, bins + 1, dtype=torch.int64)

    def update(self, confidence: Tensor, correct: Tensor) -> None:
        """Count a batch: the probability of each prediction, and whether it is right."""
        if confidence.shape != correct.shape:
            raise ValueError(
                "Calibration needs one confidence a prediction, got "
                f"{list(confidence.shape)} confidences and {list(correct.shape)} predictions."
            )
        for block in self._buffer.add(confidence.reshape(-1), correct.reshape(-1).to(confidence.device)):
            self._count(block)

    def merge(self, other: Calibration) -> None:
        """Add the sums of another, such as of another rank."""
        if other.bins != self.bins:
            raise ValueError(f"Calibration needs as many bins as the other's {other.bins}, got {self.bins!r}.")
        self._settle()
        other._settle()
        self._sums = self._sums + other._sums.to(self._sums.device)

    @property
    def broken(self) -> int:
        self._settle()
        return int(self._sums[0, -1])

    def reliability(self) -> list[Bin]:
        """Return the bins that hold samples, by confidence."""
        n, right, confidence, _ = self._columns()
        return [
            Bin(
                low=index / self.bins,
                high=(index + 1) / self.bins,
                n=int(n[index]),
                confidence=float(confidence[index] / n[index]),
                accuracy=wilson(int(right[index]), int(n[index])),
            )
            for index in np.flatnonzero(n).tolist()
        ]

    def gap(self) -> Interval:
        """Return mean confidence less accuracy: positive where the model is too sure. A mean, by Student's t."""
        n, right, confidence, squares = (column.sum() for column in self._columns())
        if n < 2:
            return bare_interval(float((confidence - right) / n) if n else math.nan, int(n))
        mean = float((confidence - right) / n)
        deviation = math.sqrt(max(float(squares / n) - mean**2, 0.0) / (n - 1))
        return Interval.around(mean, student_reach(0.95, float(n - 1)) * deviation, int(n))

    def ece(self) -> Interval:
        """Return the expected calibration error, the mean distance of accuracy from confidence over the bins.

        Chance alone keeps the two apart: of a perfect model it is above 0, the more the fewer samples. The interval is
        of the distance that would be left with endless samples. It holds each size of it that would give an error as
        seen in more than 2.5 % of the draws on either side, if the bins were off as they were seen to
        be, or all by the same.

        References:
            Nixon and others, Measuring Calibration in Deep Learning, 2019, for the bias. Carpenter, Test Inversion
            Bootstrap Confidence Intervals, 1999.
        """
        n, right, confidence, _ = (column[self._columns()[0] > 0] for column in self._columns())
        if not len(n):
            return bare_interval(math.nan, 0)
        share, distance = n / n.sum(), np.abs(right - confidence) / n
        value = float(share @ distance)
        # Two samples more of either kind: a bin of which all are right varies, too.
        rate = (right + 2) / (n + 4)
        noise = np.random.default_rng(0).normal(size=(_DRAWS, len(n))) * np.sqrt(rate * (1 - rate) / n)
        shapes = (distance / max(value, _LEAST), np.ones_like(distance))
        low = min(_size(share, shape, noise, value, 1 - _TAIL) for shape in shapes)
        high = max(_size(share, shape, noise, value, _TAIL) for shape in shapes)
        return Interval(value, min(low, value), min(max(high, value), 1.0), int(n.sum()))

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint or another rank needs: ``of`` makes the same again."""
        self._settle()
        return {"bins": self.bins, "sums": self._sums.cpu()}

    @classmethod
    def of(cls, state: dict[str, Any]) -> Calibration:
        found = cls(state["bins"])
        found._sums = state["sums"].clone()
        return found

    def _columns(self) -> tuple[Integers, Integers, Floats, Floats]:
        self._settle()
        n, right, confidence, squares = integers(self._sums[:, :-1])
        return n, right, floats(confidence) / _UNIT, floats(squares) / _UNIT

    def _settle(self) -> None:
        for block in self._buffer.rest():
            self._count(block)

    def _count(self, block: Block) -> None:
        confidence, correct = block
        inside = (confidence >= 0) & (confidence <= 1)
        confidence = torch.where(inside, confidence, 0.0)
        edges = torch.arange(1, self.bins, device=confidence.device) / self.bins
        place = torch.where(inside, torch.bucketize(confidence, edges), self.bins)
        away = confidence - correct.to(confidence.dtype)
        columns = torch.stack(
            [
                torch.ones_like(place),
                correct.long(),
                (confidence * _UNIT).round().long(),
                (away * away * _UNIT).round().long(),
            ]
        )
        self._sums = self._sums.to(place.device).index_add_(1, place, columns)


def _size(share: Floats, shape: Floats, noise: Floats, value: float, tail: float) -> float:
    """The mean distance, if the bins have this shape of mean 1, that puts ``value`` at that quantile of the draws."""

    def drawn(size: float) -> float:
        return float(np.quantile(np.abs(size * shape + noise) @ share, tail))

    if drawn(0.0) >= value:
        return 0.0
    return float(brentq(lambda size: drawn(size) - value, 0.0, 1.0, xtol=1e-12)) if drawn(1.0) > value else 1.0
