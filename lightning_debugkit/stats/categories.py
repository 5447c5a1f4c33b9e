"""Metadata of samples as a few numbered values, and what each value is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lightning_debugkit.stats.arrays import Floats, Integers, Numbers, floats

FEW = 20  # values up to which a number is taken for a category
BINS = 5
_DIGITS = 4
_ALL_DIGITS = 17
_WHOLE = 2.0**53
_MOST = 100  # values of a category that are looked at, those of most samples


@dataclass(frozen=True)
class Category:
    """A column."""

    name: str
    codes: Integers  # (n,) number of each sample's value, -1 where it has none that is looked at
    values: tuple[str, ...]  # what the values are called
    numbers: Floats | None = None  # (n,) the numbers that were cut into ranges; None of a category


def category(name: str, values: Numbers | Sequence[str]) -> Category:
    """Return ``values`` numbered; numbers of which there are many are cut into ranges of as many samples each.

    >>> found = category("source", ["a", "b", "a"])
    >>> found.codes.tolist(), found.values
    ([0, 1, 0], ('a', 'b'))
    >>> category("brightness", np.arange(100.0)).values
    ('<= 19.8', '19.8 to 39.6', '39.6 to 59.4', '59.4 to 79.2', '> 79.2')
    """
    raw = np.asarray(values)
    if raw.dtype.kind in "iuf" and len(np.unique(raw)) > FEW:
        return _ranges(name, floats(raw))
    known = np.isfinite(raw) if raw.dtype.kind == "f" else np.ones(len(raw), dtype=np.bool_)
    if raw.dtype.kind == "O":
        known = np.array([value is not None for value in raw.tolist()], dtype=np.bool_)
    # Of mixed kinds there is an order of their texts only.
    there, codes = np.unique(raw[known].astype(str) if raw.dtype.kind == "O" else raw[known], return_inverse=True)
    names = _told(there.tolist()) if there.dtype.kind == "f" else [str(value) for value in there.tolist()]
    found = np.full(len(raw), -1)
    found[known] = codes
    return coded(name, found, names)


def coded(name: str, codes: Integers, names: Sequence[str]) -> Category:
    """Return values that are numbered already; values that nobody has are left out.

    Args:
        codes: (n,) number of each sample's value, -1 where it has none.
        names: What each number is called.

    >>> coded("class", np.array([2, 0, 2]), ["cat", "dog", "owl"]).values
    ('cat', 'owl')
    """
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    most = np.argsort(-counts, kind="stable")[:_MOST]
    chosen = np.sort(most[counts[most] > 0])
    number = np.full(len(names) + 1, -1)  # the last is that of -1
    number[chosen] = np.arange(len(chosen))
    return Category(name, number[codes], tuple(names[index] for index in chosen.tolist()))


def called(low: float, high: float, edges: Sequence[float] = ()) -> str:
    """Return what a range is called; the upper bound is in it.

    Args:
        high: Upper bound.
        edges: Others that it has to be told apart from.

    >>> called(-np.inf, 0.5), called(0.25, 0.5), called(0.5, np.inf)
    ('<= 0.5', '0.25 to 0.5', '> 0.5')
    >>> called(1_700_000_200.0, 1_700_000_400.0)
    '1700000200 to 1700000400'
    """
    numbers = sorted({low, high, *edges} - {-np.inf, np.inf})
    told = dict(zip(numbers, _told(numbers, _DIGITS), strict=True))
    if low == -np.inf:
        return f"<= {told[high]}"
    return f"> {told[low]}" if high == np.inf else f"{told[low]} to {told[high]}"


def _told(numbers: Sequence[float], digits: int = 6) -> list[str]:
    """Return numbers with as many digits as tell them apart.

    >>> _told([0.5, 100_000_001.0]), _told([100_000_001.0, 100_000_002.0])
    (['0.5', '1e+08'], ['100000001', '100000002'])
    """
    for more in range(digits, _ALL_DIGITS):
        found = [f"{number:.{more}g}" for number in numbers]
        if len(set(found)) == len(found):
            return found if more == digits else [_plain(text) for text in found]
    return [repr(number) for number in numbers]


def _plain(text: str) -> str:
    """Return a whole number of many digits without an exponent."""
    return f"{float(text):.0f}" if "e+" in text and abs(float(text)) < _WHOLE else text


def _ranges(name: str, numbers: Floats) -> Category:
    known = np.isfinite(numbers)
    edges = np.unique(np.quantile(numbers[known], np.arange(1, BINS) / BINS))
    codes = np.where(known, np.searchsorted(edges, numbers), -1)
    ends = [-np.inf, *edges.tolist(), np.inf]
    return Category(name, codes, tuple(called(*pair, edges.tolist()) for pair in pairwise(ends)), numbers)
