"""The slices that are looked at, and how likely chance gives each of them its wrong samples."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lightning_debugkit.stats.arrays import Flags, Floats, Integers
from lightning_debugkit.stats.categories import Category, called
from lightning_debugkit.stats.exact_tests import hypergeometric_tail

_Bounds: TypeAlias = dict[int, tuple[float, float]]

_DEPTH = 2
_PAIRED = 50  # values up to which a column is looked at in pairs
_LEAST_SIGMAS = 2.0


@dataclass(frozen=True)
class SliceTest:
    """One slice, tested."""

    conditions: dict[str, str]  # the value or range of each column that makes it
    p: float  # probability that chance gives as many errors as it has
    inside: Callable[[], Flags]  # gives (n,) whether each sample is in it: made when asked for, as slices are many
    judges: Flags  # (n,) the samples that test it


def has_trees() -> bool:
    """Tell whether scikit-learn is there, which grows the tree."""
    return importlib.util.find_spec("sklearn") is not None


def worse(errors: int, n: int, all_errors: int, total: int) -> float:
    """Return the probability that chance puts as many of all errors into ``n`` of the samples; 1 if not unusual."""
    expected = n * all_errors / total
    variance = expected * (1 - all_errors / total) * (total - n) / max(total - 1, 1)
    if errors <= expected + _LEAST_SIGMAS * math.sqrt(variance):
        return 1.0
    return min(hypergeometric_tail(errors, n, all_errors, total), 1.0)


def singles(categories: Sequence[Category], bad: Flags, least: int) -> Iterator[SliceTest]:
    """Yield every value of every column."""
    everyone, total, errors = np.ones_like(bad), len(bad), int(bad.sum())
    for column in categories:
        counts, wrong = _counted(column.codes, bad, len(column.values))
        for code, (n, k) in enumerate(zip(counts.tolist(), wrong.tolist(), strict=True)):
            if least <= n < total:
                inside = partial(np.equal, column.codes, code)
                yield SliceTest({column.name: column.values[code]}, worse(k, n, errors, total), inside, everyone)


def slice_pairs(categories: Sequence[Category], bad: Flags, least: int) -> Iterator[SliceTest]:
    """Yield pairs of values of two columns, each against the rest of both, too."""
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
            inside = partial(_both, first.codes, one, second.codes, other)
            yield SliceTest(conditions, chance, inside, everyone)


def _both(first: Integers, one: int, second: Integers, other: int) -> Flags:
    inside: Flags = (first == one) & (second == other)
    return inside


def tree(categories: Sequence[Category], bad: Flags, least: int) -> Iterator[SliceTest]:
    """Yield nodes of a tree over the columns of numbers, grown on one half and tested on the other.

    Each has to be worse than the node above, too: what else it asks of a sample would say nothing.
    """
    names = [column.name for column in categories if column.numbers is not None]
    numbers = [column.numbers for column in categories if column.numbers is not None]
    if not numbers or not has_trees():
        return
    from sklearn.tree import DecisionTreeClassifier

    columns = np.stack([_filled(column) for column in numbers], axis=1)
    grown = np.random.default_rng(0).random(len(bad)) < 0.5
    judges = ~grown
    if min(int(grown.sum()), int(judges.sum())) < 2 * least or not bad[grown].any():
        return
    size = max(least, int(grown.sum()) // 100)
    grown_tree = DecisionTreeClassifier(max_depth=_DEPTH, min_samples_leaf=size, random_state=0)
    grown_tree.fit(columns[grown], bad[grown])
    table, everyone = columns.astype(np.float32), (int(bad[judges].sum()), int(judges.sum()))  # as the tree compares
    for bounds, parent in _nodes(grown_tree.tree_):
        inside = partial(_within, table, bounds)
        k, n = _judged(inside(), bad, judges)
        if n >= least:
            conditions = {names[column]: called(*ends) for column, ends in bounds.items()}
            chance = max(worse(k, n, *counts) for counts in (_judged(_within(table, parent), bad, judges), everyone))
            yield SliceTest(conditions, chance, inside, judges)


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
