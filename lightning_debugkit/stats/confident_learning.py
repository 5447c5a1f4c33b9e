"""Confident learning from the records of samples: which labels a model's probabilities speak against, and how many.

Where the classes that a record names do not settle a question, the sample is named instead of guessed at.

References:
    Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels, 2021.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lightning_debugkit.stats.arrays import Flags, Floats, Integers, floats
from lightning_debugkit.stats.sample_records import RecordTable

EQUAL = 1e-6  # probabilities this near are equal
_NEVER = 2.0
_DENSE = 2_048  # classes up to which the joint is rounded as a whole matrix
_BLOCK = 1 << 17


def thresholds(table: RecordTable, classes: int) -> Floats:
    """Return the mean probability that the samples of a class give it: above it a class is believed.

    >>> from lightning_debugkit.stats.sample_records import Records
    >>> import torch
    >>> records, scores = Records(), torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.4, 0.6]])
    >>> _ = records.update(scores, torch.tensor([0, 0, 1]), is_logits=False)
    >>> thresholds(records.table(), 3)  # nothing is ever taken for the third, which has no sample
    array([0.8, 0.6, 2. ])
    """
    counts = np.bincount(table.label, minlength=classes)
    sums = np.bincount(table.label, weights=table.probability, minlength=classes)
    found = np.divide(sums, counts, out=np.full(classes, _NEVER), where=counts > 0)
    return floats(np.maximum(found, 2 * EQUAL))


@dataclass(frozen=True)
class Guess:
    """The class that each sample confidently is."""

    label: Integers  # it, -1 where none is believed
    is_open: Flags  # where a class that the record does not name could be


def guesses(table: RecordTable, limits: Floats) -> Guess:
    """Return the believed class of each sample, the likeliest if several are."""
    parts = [_guess(table, limits, slice(at, at + _BLOCK)) for at in range(0, len(table), _BLOCK)]
    if not parts:
        return Guess(np.empty(0, np.int64), np.empty(0, np.bool_))
    return Guess(np.concatenate([part.label for part in parts]), np.concatenate([part.is_open for part in parts]))


def _guess(table: RecordTable, limits: Floats, rows: slice) -> Guess:
    enough, predicted = limits - EQUAL, table.predicted[rows].astype(np.int64)
    if table.is_whole:
        passes = table.probabilities[rows] >= enough[: table.width]
        # How many pass, and their sum, which is the class where one does: a product is faster than sums of short rows.
        count_and_sum = np.stack([np.ones(table.width), np.arange(table.width)], axis=1)
        number, only = (passes.astype(np.float32) @ count_and_sum.astype(np.float32)).T
        found = np.where(number > 1, predicted, np.where(number == 1, only, -1))
        return Guess(found.astype(np.int64), np.zeros(len(found), np.bool_))
    names, label = table.classes[rows].astype(np.int64), table.label[rows].astype(np.int64)
    passes = table.probabilities[rows] >= enough[names]
    own_passes = (table.probability[rows] >= enough[label]) & (names != label[:, None]).all(axis=1)
    number = passes.sum(axis=1) + own_passes
    only = np.where(own_passes, label, np.take_along_axis(names, passes.argmax(axis=1)[:, None], axis=1)[:, 0])
    found = np.where(number > 1, predicted, np.where(number == 1, only, -1))
    # One more class that passes makes the likeliest class the guess.
    decided = (number > 1) | ((number == 1) & (only == predicted))
    could = unnamed(table, rows) >= enough.min()
    return Guess(found, ~decided & could)


def unnamed(table: RecordTable, rows: slice = slice(None)) -> Floats:
    """Return the most that a class can have which the record does not name; -1 where it names all."""
    numbers = floats(table.probabilities[rows])
    if table.is_whole:
        return np.full(len(numbers), -1.0)
    own = np.where((table.classes[rows] == table.label[rows][:, None]).any(axis=1), 0.0, table.probability[rows])
    rest = 1 + EQUAL - numbers.sum(axis=1) - own
    return floats(np.clip(rest, 0, numbers[:, -1]))


class Prune(NamedTuple):
    """How many samples of a label are to be doubted."""

    label: int
    others: Integers  # classes that the rest seem to be
    counts: Integers  # samples of each of them


def to_prune(table: RecordTable, guess: Guess, classes: int) -> Iterator[Prune]:
    """Yield, for each label, how many of its samples are of each other class, by the confident joint.

    The joint counts labels against guesses, and is scaled so that every sample counts. At least one sample of a label
    is kept; a label of one sample is left out.
    """
    counts = np.bincount(table.label, minlength=classes)
    for label, columns, row in _joint(table, guess, counts, classes):
        if counts[label] < 2:
            continue
        whole = _rounded(row)
        keep = int(whole[columns == label].sum())
        if keep < 1:
            occur = max(int(np.count_nonzero(whole)) - 1, 1)
            whole = np.floor(np.maximum(whole - (1 - keep) / occur, 0))
        others = (columns != label) & (whole > 0)
        yield Prune(label, columns[others], whole[others].astype(np.int64))


def _joint(table: RecordTable, guess: Guess, counts: Integers, classes: int) -> Iterator[tuple[int, Integers, Floats]]:
    """Rows of the scaled joint: a label, classes, samples of the label that are of them."""
    believed = guess.label >= 0
    label, guessed = table.label[believed].astype(np.int64), guess.label[believed]
    if classes <= _DENSE:
        dense = floats(np.bincount(label * classes + guessed, minlength=classes**2)).reshape(classes, classes)
        np.fill_diagonal(dense, np.maximum(dense.diagonal(), 1))
        # In this order, so that remainders that are equal on paper are equal, and rounded as cleanlab rounds them.
        dense = dense / dense.sum(axis=1, keepdims=True) * counts[:, None]
        dense = dense / max(float(dense.T.copy().sum()), 1.0) * counts.sum()
        yield from ((row, np.arange(classes), dense[row]) for row in range(classes))
        return
    codes, number = np.unique(
        np.append(label * classes + guessed, np.arange(classes) * (classes + 1)), return_counts=True
    )
    rows, columns = codes // classes, codes % classes
    # The diagonal was added once for each class, and counts at least one.
    values = np.where(rows == columns, np.maximum(number - 1, 1), number)
    ends = np.searchsorted(rows, np.arange(classes + 1))
    for row in range(classes):
        part = slice(ends[row], ends[row + 1])
        yield row, columns[part], values[part] * (counts[row] / values[part].sum())


def _rounded(row: Floats) -> Floats:
    """Whole numbers of the same sum: the largest remainders are rounded up."""
    whole = np.round(row)
    short = round(float(np.round(row.sum()) - whole.sum()))
    order = np.argsort(row - whole)
    if short > 0:
        whole[order[::-1][:short]] += 1
    elif short < 0:
        whole[order[:-short]] -= 1
    return whole
