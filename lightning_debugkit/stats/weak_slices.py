"""Where the wrong samples gather: values of metadata, and pairs of them, that are worse than chance explains.

Values and ranges are fixed before the errors are looked at, so that all samples test them. Only the cuts of the tree
are searched on the errors, of one half of the samples; the other half tests them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import false_discovery_control

from lightning_debugkit.stats.arrays import Flags, Integers, Numbers, flags
from lightning_debugkit.stats.categories import Category, category
from lightning_debugkit.stats.intervals import difference_interval, wilson
from lightning_debugkit.stats.slice_search import SliceTest, singles, slice_pairs, tree, worse

_SAMPLES = 20  # that a slice needs
_MOST = 10  # slices told


@dataclass(frozen=True)
class WeakSlice:
    """Samples that are wrong more often than the rest."""

    conditions: dict[str, str]  # the value or range of each column that makes the slice
    n: int  # samples that tested it
    errors: int  # wrong ones
    rate: float  # `errors / n`
    low: float  # lower bound of the rate, by Wilson's interval
    high: float  # upper bound
    rest_rate: float  # error rate of the other samples
    drop: float  # `rate - rest_rate`
    drop_low: float  # lower bound of it, by Newcombe's interval
    p: float  # probability that chance gives as many errors as that
    p_adjusted: float  # share of false discoveries among slices that are as unlikely
    rows: Integers = field(repr=False, compare=False)  # samples of the slice


@dataclass(frozen=True)
class Scan:
    """What was found, the worst first, and how many slices were tested for it."""

    slices: list[WeakSlice]
    tested: int


def scan_slices(columns: Mapping[str, Numbers | Sequence[str] | Category], wrong: Numbers, alpha: float = 0.01) -> Scan:
    """Look at every value, every pair of values of two columns, and the nodes of a shallow tree of the numbers.

    A pair has to be worse than the rest of either of its values; a slice that is only weak where it overlaps a worse
    one is left out. The tree needs scikit-learn; without it numbers are looked at in ranges alone.

    Args:
        columns: Metadata of the samples: numbers, names, or categories.
        wrong: (n,) whether each sample is wrong.
        alpha: Share of false discoveries that is let through; of metadata that tells nothing, how often anything is.

    >>> wrong = np.arange(400) % 20 == 0
    >>> wrong[:40] = True
    >>> scan = scan_slices({"camera": ["a"] * 40 + ["b"] * 360}, wrong)
    >>> [(found.conditions, found.n, found.errors, found.rest_rate) for found in scan.slices], scan.tested
    ([({'camera': 'a'}, 40, 40, 0.05)], 2)

    References:
        Fisher's exact test, one-sided. Benjamini and Hochberg, Controlling the False Discovery Rate, 1995. Chung and
        others, Slice Finder: Automated Data Slicing for Model Validation, 2019.
    """
    bad = flags(wrong).reshape(-1)
    for name, values in columns.items():
        n = len(values.codes if isinstance(values, Category) else values)
        if n != len(bad):
            raise ValueError(f"scan_slices needs a value a sample, got {n} of {name!r} for {len(bad)} samples.")
    if not bad.any() or bad.all():
        return Scan([], 0)
    categories = [
        values if isinstance(values, Category) else category(name, values) for name, values in columns.items()
    ]
    tests = [
        *singles(categories, bad, _SAMPLES),
        *slice_pairs(categories, bad, _SAMPLES),
        *tree(categories, bad, _SAMPLES),
    ]
    adjusted = false_discovery_control([test.p for test in tests])
    found = [_slice(test, bad, share) for test, share in zip(tests, adjusted.tolist(), strict=True) if share <= alpha]
    found.sort(key=lambda one: -one.drop_low)
    return Scan(_apart(found, bad, alpha)[:_MOST], len(tests))


def _slice(test: SliceTest, bad: Flags, adjusted: float) -> WeakSlice:
    inside = test.inside()
    judged, rest = inside & test.judges, ~inside & test.judges
    rate = wilson(int((judged & bad).sum()), int(judged.sum()))
    others = wilson(int((rest & bad).sum()), int(rest.sum()))
    drop = difference_interval(rate, others)
    return WeakSlice(
        conditions=test.conditions,
        n=int(judged.sum()),
        errors=int((judged & bad).sum()),
        rate=rate.value,
        low=rate.low,
        high=rate.high,
        rest_rate=others.value,
        drop=drop.value,
        drop_low=drop.low,
        p=test.p,
        p_adjusted=adjusted,
        rows=np.flatnonzero(inside),
    )


def _apart(found: Sequence[WeakSlice], bad: Flags, alpha: float) -> list[WeakSlice]:
    """The slices that are weak also without their samples in worse ones."""
    taken = np.zeros_like(bad)
    kept: list[WeakSlice] = []
    for one in found:
        own = np.zeros_like(bad)
        own[one.rows] = True
        own &= ~taken
        n, total = int(own.sum()), int((~taken).sum())
        if n >= _SAMPLES and worse(int((own & bad).sum()), n, int((bad & ~taken).sum()), total) <= alpha:
            kept.append(one)
            taken |= own
    return kept
