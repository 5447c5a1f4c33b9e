"""How often intervals hold the truth: by simulated runs, or summed over everything that can occur."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.stats import binom

from lightning_debugkit.stats.intervals import Interval

RUNS = 1_000


def holds(intervals: Iterable[Interval], truth: float) -> float:
    """The share of ``intervals`` that hold ``truth``."""
    return float(np.mean([found.low <= truth <= found.high for found in intervals]))


def exact_coverage(intervals: list[Interval], rate: float) -> float:
    """``intervals``: one for each count of mistakes, from none to all."""
    n = len(intervals) - 1
    chances = binom.pmf(np.arange(n + 1), n, rate)
    return float(sum(p for p, found in zip(chances, intervals, strict=True) if found.low <= rate <= found.high))
