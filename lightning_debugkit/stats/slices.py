"""Where the wrong samples gather: values of metadata, and pairs of them, that are worse than chance explains.

Values and ranges are fixed before the errors are looked at, so that all samples test them. Only the cuts of the tree
are searched on the errors, of one half of the samples; the other half tests them.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lightning_debugkit.stats.arrays import Flags, Floats, Integers, Numbers, flags
from lightning_debugkit.stats.categories import Category, called, category
from lightning_debugkit.stats.few_samples import hypergeometric_tail
from lightning_debugkit.stats.intervals import difference, wilson

_Bounds: TypeAlias = dict[int, tuple[float, float]]

_DEPTH = 2
_PAIRED = 50  # values up to which a column is looked at in pairs
_LEAST_SIGMAS = 2.0


@dataclass(frozen=True)
class Slice:
    """Samples that are wrong more often than the rest.

    Args:
        conditions: The value or range of each column that makes the slice.
        n: Samples that tested it.
        errors: Wrong ones.
        rate: ``errors / n``.
        low: Lower bound of the rate, by Wilson's interval.
        high: Upper bound.
        rest_rate: Error rate of the other samples.
        drop: ``rate - rest_rate``.
        drop_low: Lower bound of it, by Newcombe's interval.
        p: Probability that chance gives as many errors as that.
        p_adjusted: Share of false discoveries among slices that are as unlikely.
        rows: Samples of the slice.
    """

    conditions: dict[str, str]
    n: int
    errors: int
    rate: float
    low: float
    high: float
    rest_rate: float
    drop: float
    drop_low: float
    p: float
    p_adjusted: float
    rows: Integers = field(repr=False, compare=False)


@dataclass(frozen=True)
class Scan:
    """What was found, the worst first, and how many slices were tested for it."""

    slices: list[Slice]
    tested: int


@dataclass(frozen=True)
class _Test:
    conditions: dict[str, str]
    p: float
    inside: Callable[[], Flags]
    judges: Flags  # the samples that test it


def weak_slices(
    columns: Mapping[str, Numbers | Sequence[str]],
    wrong: Numbers,
    alpha: float = 0.01,
    min_samples: int = 20,
    most: int = 10,
    seed: int = 0,
) -> list[Slice]:
    """Return the slices that ``scan_slices`` finds."""
    return scan_slices(columns, wrong, alpha, min_samples, most, seed).slices


def scan_slices(
    columns: Mapping[str, Numbers | Sequence[str]],
    wrong: Numbers,
    alpha: float = 0.01,
    min_samples: int = 20,
    most: int = 10,
    seed: int = 0,
) -> Scan:
    """Look at every value, every pair of values of two columns, and the nodes of a shallow tree of the numbers.

    A pair has to be worse than the rest of either of its values; a slice that is only weak where it overlaps a worse
    one is left out. The tree needs scikit-learn; without it numbers are looked at in ranges alone.

    Args:
        columns: Metadata of the samples: numbers, or names.
        wrong: (n,) whether each sample is wrong.
        alpha: Share of false discoveries that is let through; of metadata that tells nothing, how often anything is.
        min_samples: Samples that a slice needs.
        most: Slices wanted.
        seed: Of the halves.

    Example:
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
        if len(values) != len(bad):
            raise ValueError(
                f"weak_slices needs a value a sample, got {len(values)} of {name!r} for {len(bad)} samples."
            )
    if not bad.any() or bad.all():
        return Scan([], 0)
    categories = [category(name, values) for name, values in columns.items()]
    tests = [
        *_singles(categories, bad, min_samples),
        *_pairs(categories, bad, min_samples),
        *_tree(categories, bad, min_samples, seed),
    ]
    adjusted = false_discovery(np.array([test.p for test in tests]))
    found = [_slice(test, bad, share) for test, share in zip(tests, adjusted.tolist(), strict=True) if share <= alpha]
    found.sort(key=lambda one: -one.drop_low)
    return Scan(_apart(found, bad, alpha, min_samples)[:most], len(tests))


def false_discovery(p: Floats) -> Floats:
    """Return, for each test, the share of false discoveries if it and all that are less likely were believed.

    Example:
        >>> false_discovery(np.array([0.01, 0.5, 0.02]))
        array([0.03, 0.5 , 0.03])
    """
    order = np.argsort(p)[::-1]
    scaled = p[order] * len(p) / np.arange(len(p), 0, -1)
    found = np.empty(len(p))
    found[order] = np.minimum.accumulate(scaled)
    return np.minimum(found, 1)


def worse(errors: int, n: int, all_errors: int, total: int) -> float:
    """Return the probability that chance puts as many of all errors into ``n`` of the samples; 1 if not unusual."""
    expected = n * all_errors / total
    variance = expected * (1 - all_errors / total) * (total - n) / max(total - 1, 1)
    if errors <= expected + _LEAST_SIGMAS * math.sqrt(variance):
        return 1.0
    return min(hypergeometric_tail(errors, n, all_errors, total), 1.0)


def _singles(categories: Sequence[Category], bad: Flags, least: int) -> Iterator[_Test]:
    everyone, total, errors = np.ones_like(bad), len(bad), int(bad.sum())
    for column in categories:
        counts, wrong = _counted(column.codes, bad, len(column.values))
        for code, (n, k) in enumerate(zip(counts.tolist(), wrong.tolist(), strict=True)):
            if least <= n < total:
                inside = partial(np.equal, column.codes, code)
                yield _Test({column.name: column.values[code]}, worse(k, n, errors, total), inside, everyone)


def _pairs(categories: Sequence[Category], bad: Flags, least: int) -> Iterator[_Test]:
    everyone, total, errors = np.ones_like(bad), len(bad), int(bad.sum())
    few = [column for column in categories if len(column.values) <= _PAIRED]
    for first, second in combinations(few, 2):
        width = len(second.values)
        both = np.where((first.codes >= 0) & (second.codes >= 0), first.codes * width + second.codes, -1)
        counts, wrong = _counted(both, bad, len(first.values) * width)
        of_first, of_second = (_counted(column.codes, bad, len(column.values)) for column in (first, second))
        for cell in np.flatnonzero(counts >= least).tolist():
            one, other, n, k = cell // width, cell % width, int(counts[cell]), int(wrong[cell])
            parents = [
                (int(of_first[1][one]), int(of_first[0][one])),
                (int(of_second[1][other]), int(of_second[0][other])),
            ]
            if any(n == size for _, size in parents):
                continue  # the pair is one of its values
            chance = max(worse(k, n, *counted) for counted in [*parents, (errors, total)])
            conditions = {first.name: first.values[one], second.name: second.values[other]}
            yield _Test(conditions, chance, partial(np.equal, both, cell), everyone)


def _tree(categories: Sequence[Category], bad: Flags, least: int, seed: int) -> Iterator[_Test]:
    """Nodes of a tree over the columns of numbers, grown on one half and tested on the other.

    Each has to be worse than the node above, too: what else it asks of a sample would say nothing.
    """
    names = [column.name for column in categories if column.numbers is not None]
    numbers = [column.numbers for column in categories if column.numbers is not None]
    if not numbers or importlib.util.find_spec("sklearn") is None:
        return
    from sklearn.tree import DecisionTreeClassifier

    columns = np.stack([_filled(column) for column in numbers], axis=1)
    grown = np.random.default_rng(seed).random(len(bad)) < 0.5
    judges = ~grown
    if min(int(grown.sum()), int(judges.sum())) < 2 * least or not bad[grown].any():
        return
    size = max(least, int(grown.sum()) // 100)
    tree = DecisionTreeClassifier(max_depth=_DEPTH, min_samples_leaf=size, random_state=seed)
    tree.fit(columns[grown], bad[grown])
    table, everyone = columns.astype(np.float32), (int(bad[judges].sum()), int(judges.sum()))  # as the tree compares
    for bounds, parent in _nodes(tree.tree_):
        inside = partial(_within, table, bounds)
        k, n = _judged(inside(), bad, judges)
        if n >= least:
            conditions = {names[column]: called(*ends) for column, ends in bounds.items()}
            chance = max(worse(k, n, *counts) for counts in (_judged(_within(table, parent), bad, judges), everyone))
            yield _Test(conditions, chance, inside, judges)


def _filled(column: Floats) -> Floats:
    """The numbers, as the tree can take them: one that is missing or infinite is put in the middle."""
    known, most = np.isfinite(column), float(np.finfo(np.float32).max)
    return np.clip(np.where(known, column, np.median(column[known])), -most, most)


def _nodes(tree: Any) -> Iterator[tuple[_Bounds, _Bounds]]:
    """The range of each column that ends in each node, and in the node above."""
    waiting: list[tuple[int, _Bounds]] = [(0, {})]
    while waiting:
        node, bounds = waiting.pop()
        left, right, column = int(tree.children_left[node]), int(tree.children_right[node]), int(tree.feature[node])
        if left >= 0:
            cut, (low, high) = float(tree.threshold[node]), bounds.get(column, (-math.inf, math.inf))
            for child, ends in ((left, (low, cut)), (right, (cut, high))):
                waiting.append((child, {**bounds, column: ends}))
                yield {**bounds, column: ends}, bounds


def _within(table: NDArray[np.float32], bounds: _Bounds) -> Flags:
    inside = np.ones(len(table), dtype=np.bool_)
    for column, (low, high) in bounds.items():
        inside &= (table[:, column] > low) & (table[:, column] <= high)
    return inside


def _judged(inside: Flags, bad: Flags, judges: Flags) -> tuple[int, int]:
    """Wrong samples and all samples of the half that tests."""
    return int((inside & judges & bad).sum()), int((inside & judges).sum())


def _counted(codes: Integers, bad: Flags, values: int) -> tuple[Integers, Integers]:
    """Samples and wrong samples of each value."""
    known = codes >= 0
    return np.bincount(codes[known], minlength=values), np.bincount(codes[known & bad], minlength=values)


def _slice(test: _Test, bad: Flags, adjusted: float) -> Slice:
    inside = test.inside()
    judged, rest = inside & test.judges, ~inside & test.judges
    rate = wilson(int((judged & bad).sum()), int(judged.sum()))
    others = wilson(int((rest & bad).sum()), int(rest.sum()))
    drop = difference(rate, others)
    return Slice(
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


def _apart(found: Sequence[Slice], bad: Flags, alpha: float, least: int) -> list[Slice]:
    """The slices that are weak also without their samples in worse ones."""
    taken = np.zeros_like(bad)
    kept: list[Slice] = []
    for one in found:
        own = np.zeros_like(bad)
        own[one.rows] = True
        own &= ~taken
        n, total = int(own.sum()), int((~taken).sum())
        if n >= least and worse(int((own & bad).sum()), n, int((bad & ~taken).sum()), total) <= alpha:
            kept.append(one)
            taken |= own
    return kept
